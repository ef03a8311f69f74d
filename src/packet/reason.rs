//! Reason codes: how every step of the protocol says that it went well, or why it did not.
//!
//! They are MQTT 5.0's; 3.1 and 3.1.1 know five of them, for CONNACK only, see
//! [`ReasonCode::connect_return_code`]. A handler that cannot go on returns a [`Refusal`]: the
//! code for the machine and a sentence for the person who has to mend it.

use super::PacketType;
use super::PacketType::*;

/// Why a packet is not accepted, for the wire (`code`) and for people (`why`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ReasonCode,
    /// One sentence without a full stop, sent as Reason String and logged.
    pub why: &'static str,
}

impl Refusal {
    pub const fn new(code: ReasonCode, why: &'static str) -> Refusal {
        Refusal { code, why }
    }

    /// 0x81: the bytes cannot be read as the specification lays them out.
    pub const fn malformed(why: &'static str) -> Refusal {
        Refusal::new(ReasonCode::MalformedPacket, why)
    }

    /// 0x82: the bytes can be read, but the sender must not have sent them.
    pub const fn protocol(why: &'static str) -> Refusal {
        Refusal::new(ReasonCode::ProtocolError, why)
    }
}

macro_rules! reason_codes {
    ($($name:ident = $code:literal, $text:literal, [$($packet:ident)*];)*) => {
        /// MQTT 5.0, table 2-6. `Success` is also Normal disconnection and Granted QoS 0.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode { $($name = $code,)* }

        /// Code, name in the specification, packets that may carry it.
        const TABLE: &[(ReasonCode, &str, &[PacketType])] =
            &[$((ReasonCode::$name, $text, &[$($packet),*]),)*];
    };
}

reason_codes! {
    Success = 0x00, "success",
        [ConnAck PubAck PubRec PubRel PubComp UnsubAck Auth SubAck Disconnect];
    GrantedQoS1 = 0x01, "granted QoS 1", [SubAck];
    GrantedQoS2 = 0x02, "granted QoS 2", [SubAck];
    DisconnectWithWill = 0x04, "disconnect with Will Message", [Disconnect];
    NoMatchingSubscribers = 0x10, "no matching subscribers", [PubAck PubRec];
    NoSubscriptionExisted = 0x11, "no subscription existed", [UnsubAck];
    ContinueAuthentication = 0x18, "continue authentication", [Auth];
    ReAuthenticate = 0x19, "re-authenticate", [Auth];
    UnspecifiedError = 0x80, "unspecified error",
        [ConnAck PubAck PubRec SubAck UnsubAck Disconnect];
    MalformedPacket = 0x81, "malformed packet", [ConnAck Disconnect];
    ProtocolError = 0x82, "protocol error", [ConnAck Disconnect];
    ImplementationSpecificError = 0x83, "implementation specific error",
        [ConnAck PubAck PubRec SubAck UnsubAck Disconnect];
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version", [ConnAck];
    ClientIdentifierNotValid = 0x85, "client identifier not valid", [ConnAck];
    BadUserNameOrPassword = 0x86, "bad user name or password", [ConnAck];
    NotAuthorized = 0x87, "not authorized",
        [ConnAck PubAck PubRec SubAck UnsubAck Disconnect];
    ServerUnavailable = 0x88, "server unavailable", [ConnAck];
    ServerBusy = 0x89, "server busy", [ConnAck Disconnect];
    Banned = 0x8A, "banned", [ConnAck];
    ServerShuttingDown = 0x8B, "server shutting down", [Disconnect];
    BadAuthenticationMethod = 0x8C, "bad authentication method", [ConnAck Disconnect];
    KeepAliveTimeout = 0x8D, "keep alive timeout", [Disconnect];
    SessionTakenOver = 0x8E, "session taken over", [Disconnect];
    TopicFilterInvalid = 0x8F, "topic filter invalid", [SubAck UnsubAck Disconnect];
    TopicNameInvalid = 0x90, "topic name invalid", [ConnAck PubAck PubRec Disconnect];
    PacketIdentifierInUse = 0x91, "packet identifier in use", [PubAck PubRec SubAck UnsubAck];
    PacketIdentifierNotFound = 0x92, "packet identifier not found", [PubRel PubComp];
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded", [Disconnect];
    TopicAliasInvalid = 0x94, "topic alias invalid", [Disconnect];
    PacketTooLarge = 0x95, "packet too large", [ConnAck Disconnect];
    MessageRateTooHigh = 0x96, "message rate too high", [Disconnect];
    QuotaExceeded = 0x97, "quota exceeded", [ConnAck PubAck PubRec SubAck Disconnect];
    AdministrativeAction = 0x98, "administrative action", [Disconnect];
    PayloadFormatInvalid = 0x99, "payload format invalid", [ConnAck PubAck PubRec Disconnect];
    RetainNotSupported = 0x9A, "retain not supported", [ConnAck Disconnect];
    QoSNotSupported = 0x9B, "QoS not supported", [ConnAck Disconnect];
    UseAnotherServer = 0x9C, "use another server", [ConnAck Disconnect];
    ServerMoved = 0x9D, "server moved", [ConnAck Disconnect];
    SharedSubscriptionsNotSupported = 0x9E, "shared subscriptions not supported",
        [SubAck Disconnect];
    ConnectionRateExceeded = 0x9F, "connection rate exceeded", [ConnAck Disconnect];
    MaximumConnectTime = 0xA0, "maximum connect time", [Disconnect];
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription identifiers not supported",
        [SubAck Disconnect];
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard subscriptions not supported",
        [SubAck Disconnect];
}

impl ReasonCode {
    /// The code a packet of type `packet` carries as `byte`, if table 2-6 allows it there.
    pub fn parse(byte: u8, packet: PacketType) -> Result<ReasonCode, Refusal> {
        TABLE
            .iter()
            .find(|(code, _, packets)| *code as u8 == byte && packets.contains(&packet))
            .map(|(code, ..)| *code)
            .ok_or(Refusal::malformed(
                "this packet type cannot carry that reason code",
            ))
    }

    /// The specification's name for it.
    pub fn name(self) -> &'static str {
        TABLE
            .iter()
            .find(|(code, ..)| *code == self)
            .map_or("", |(_, name, _)| name)
    }

    /// 0x80 and above say that the step failed (MQTT 5.0, 2.4).
    pub fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The CONNACK return code of MQTT 3.1 and 3.1.1 (3.2.2.3), `None` where none of them fits and
    /// the connection is closed without one `[v3 MQTT-3.2.2-6]`.
    pub fn connect_return_code(self) -> Option<u8> {
        match self {
            ReasonCode::Success => Some(0),
            ReasonCode::UnsupportedProtocolVersion => Some(1),
            ReasonCode::ClientIdentifierNotValid => Some(2),
            ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::QuotaExceeded
            | ReasonCode::ConnectionRateExceeded => Some(3),
            ReasonCode::BadUserNameOrPassword => Some(4),
            ReasonCode::NotAuthorized | ReasonCode::Banned => Some(5),
            _ => None,
        }
    }

    /// What a return code of MQTT 3.1 and 3.1.1 means in the words of 5.0.
    pub fn from_connect_return_code(code: u8) -> Result<ReasonCode, Refusal> {
        match code {
            0 => Ok(ReasonCode::Success),
            1 => Ok(ReasonCode::UnsupportedProtocolVersion),
            2 => Ok(ReasonCode::ClientIdentifierNotValid),
            3 => Ok(ReasonCode::ServerUnavailable),
            4 => Ok(ReasonCode::BadUserNameOrPassword),
            5 => Ok(ReasonCode::NotAuthorized),
            _ => Err(Refusal::malformed("unknown CONNACK return code")),
        }
    }
}
