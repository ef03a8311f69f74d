pub mod broker;
pub mod packet;
