//! When devices were last seen.

use crate::changes::Statement;
use crate::columns::opt_time;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::registry::{DeviceId, Monitoring};

/// Keeps what is newly known of a device; what is not known leaves what was.
pub fn put(device: &DeviceId, monitoring: &Monitoring) -> Statement {
    Statement::new(
        "INSERT INTO device_monitoring (device_id, last_auth_ip, last_auth_at, last_pub_activity_at, last_sub_activity_at,
         last_online_at, last_disconnect_at)
         SELECT d.id, CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS BIGINT),
         CAST($7 AS BIGINT) FROM devices d WHERE d.id = $1
         ON CONFLICT (device_id) DO UPDATE SET
         last_auth_ip = COALESCE(excluded.last_auth_ip, device_monitoring.last_auth_ip),
         last_auth_at = COALESCE(excluded.last_auth_at, device_monitoring.last_auth_at),
         last_pub_activity_at = COALESCE(excluded.last_pub_activity_at, device_monitoring.last_pub_activity_at),
         last_sub_activity_at = COALESCE(excluded.last_sub_activity_at, device_monitoring.last_sub_activity_at),
         last_online_at = COALESCE(excluded.last_online_at, device_monitoring.last_online_at),
         last_disconnect_at = COALESCE(excluded.last_disconnect_at, device_monitoring.last_disconnect_at)",
        params![
            device.as_str(),
            monitoring.last_auth_ip.as_deref(),
            monitoring.last_auth,
            monitoring.last_pub_activity,
            monitoring.last_sub_activity,
            monitoring.last_online,
            monitoring.last_disconnect,
        ],
    )
}

/// What is known of a device.
pub async fn of(db: &Db, device: &DeviceId) -> Result<Monitoring, StoreError> {
    let sql = "SELECT last_auth_ip, last_auth_at, last_pub_activity_at, last_sub_activity_at, last_online_at,
               last_disconnect_at FROM device_monitoring WHERE device_id = $1";
    let Some(row) = db.row(sql, params![device.as_str()]).await? else { return Ok(Monitoring::default()) };
    Ok(Monitoring {
        last_auth_ip: row.opt_string(0)?,
        last_auth: opt_time(&row, 1)?,
        last_pub_activity: opt_time(&row, 2)?,
        last_sub_activity: opt_time(&row, 3)?,
        last_online: opt_time(&row, 4)?,
        last_disconnect: opt_time(&row, 5)?,
    })
}
