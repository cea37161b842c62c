//! What leads to AWS, held against a stand-in that checks signatures, and against moto.

mod delivery;
mod put_object;
