//! From the host's configuration to the options of one session.

use iscsi::chap::{Challenge, Credentials, Secret};
use iscsi::initiator::{Chap, Kind, LoginError, Mutual, Options};
use iscsi::name::Name;
use iscsi::negotiation::{DigestPolicy, Offers};
use iscsi::pdu::{Isid, LoginStatus};

use crate::config::{ChapConfig, Digests, EarlyData, Initiator};
use crate::nexus::Purpose;

/// The longest data segment that we take: one PDU for the largest read that is common, so that its header costs
/// nothing; it bounds nothing of ours, as data goes straight into the request's buffer.
const DATA_SEGMENT_MAX: u32 = 1 << 20;
/// Sequences as long as targets allow: each one costs a round trip.
const BURST_MAX: u32 = 1 << 20;

/// What a session of this host is to be. Mutual CHAP needs a challenge.
///
/// # Errors
/// A line that says whose name or secret is wrong.
pub(crate) fn session_options(
    initiator: &Initiator,
    initiator_name: &str,
    purpose: &Purpose,
    isid: [u8; 6],
    challenge: Option<Challenge>,
) -> Result<Options, String> {
    let name = |text: &str, whose: &str| {
        text.parse::<Name>()
            .map_err(|error| format!("the {whose} name '{text}' is not an iSCSI name: {error}"))
    };
    let kind = match purpose {
        Purpose::Discovery => Kind::Discovery,
        Purpose::Target { name: target, .. } => Kind::Normal { target_name: name(target, "target")? },
    };
    let mut options = Options::new(name(initiator_name, "initiator")?, Isid(isid), kind);
    options.chap = initiator.chap.as_ref().map(|config| chap(config, challenge)).transpose()?;
    options.offers = offers(initiator.digests, initiator.early_data);
    options.nop_interval = Some(initiator.nop_interval);
    options.nop_timeout = initiator.nop_timeout;
    options.login_timeout = initiator.login_timeout;
    options.command_timeout = initiator.command_timeout;
    Ok(options)
}

/// What whoever started us can do about a failed login; empty where the error says it already.
pub(crate) const fn login_advice(error: &LoginError) -> &'static str {
    match error {
        LoginError::NotIscsi { .. } => "; check address and port",
        LoginError::Closed | LoginError::Timeout => "; check that this is the address of an iSCSI portal",
        LoginError::Refused(LoginStatus::TargetNotFound | LoginStatus::TargetRemoved) => {
            "; check the name, or give only HOST[:PORT] to use what the portal knows"
        }
        LoginError::Refused(LoginStatus::AuthenticationFailed) => {
            "; check --chap-file or SMPATH_CHAP_NAME and SMPATH_CHAP_SECRET"
        }
        LoginError::Chap(_) => "; check the CHAP names and secrets on both sides",
        _ => "",
    }
}

fn offers(digests: Digests, early_data: EarlyData) -> Offers {
    let policy = |wanted| if wanted { DigestPolicy::Prefer } else { DigestPolicy::Accept };
    Offers {
        header_digest: policy(digests != Digests::None),
        data_digest: policy(digests == Digests::HeaderAndData),
        max_recv_data_segment_length: DATA_SEGMENT_MAX,
        max_burst_length: BURST_MAX,
        initial_r2t: early_data == EarlyData::Off,
        immediate_data: early_data == EarlyData::On,
        ..Offers::default()
    }
}

fn chap(config: &ChapConfig, challenge: Option<Challenge>) -> Result<Chap, String> {
    let secret =
        |bytes: &[u8]| Secret::new(bytes).map_err(|error| format!("the CHAP secret is not usable: {error}"));
    let mutual = match &config.mutual {
        None => None,
        Some((name, bytes)) => Some(Mutual {
            credentials: Credentials { name: name.clone(), secret: secret(bytes)? },
            challenge: challenge.ok_or("no challenge was drawn for the target to prove itself")?,
        }),
    };
    Ok(Chap {
        credentials: Credentials { name: config.name.clone(), secret: secret(&config.secret)? },
        mutual,
    })
}
