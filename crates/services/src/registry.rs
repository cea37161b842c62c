//! The use cases of the device registry (contract/yandex: registries, devices, brokers, their credentials and topics).
