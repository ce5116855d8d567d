//! The login phase: text in, text out (RFC 7143, section 6.3).
//!
//! It starts at the security stage even without authentication: RFC 7143 (6.3.5) lets a target take only such a
//! login as a reinstatement of an older session.

use super::discover::Portal;
use super::error::LoginError;
use super::options::{Chap, Kind, Options};
use crate::chap::{ALGORITHM_MD5, PeerChallenge};
use crate::negotiation::{DATA_SEGMENT_LENGTH_DEFAULT, Negotiated, Negotiation, SessionType};
use crate::pdu::{LoginResponse, LoginStages, LoginStatus, Stage};
use crate::text::{Text, TextBuffer};

/// So many answers of the target a login may take: a plain one takes 2, mutual CHAP 4; long text more.
const ROUNDS_MAX: u32 = 64;
/// The most text of one stage, in bytes. Real logins have less than 2 KiB.
const TEXT_LENGTH_MAX: usize = 64 << 10;

/// A login that goes on.
#[derive(Debug)]
pub(super) struct Login {
    stage: Stage,
    authentication: Authentication,
    negotiation: Negotiation,
    /// Text of the target that goes on in the next PDU.
    received: TextBuffer,
    /// Text of ours, and how much of it is sent.
    sending: Text,
    sent: usize,
    /// With the last of our text we ask for the next stage.
    transit: bool,
    /// The last PDU that we sent did.
    transit_asked: bool,
    rounds: u32,
    target_portal_group_tag: Option<u16>,
    target_alias: Option<String>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Send(LoginStages, Vec<u8>),
    Done(Box<LoggedIn>),
    Moved { portal: Portal, permanence: Permanence },
}

/// What a login has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    pub negotiated: Negotiated,
    /// The target's name for the session.
    pub tsih: u16,
    pub target_portal_group_tag: Option<u16>,
    pub target_alias: Option<String>,
}

/// For how long a target has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permanence {
    Temporary,
    Permanent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authentication {
    /// Only `None` was offered.
    NotOffered,
    /// CHAP was offered.
    Offered,
    /// The algorithm was offered.
    Algorithm,
    /// We have answered the target's challenge.
    Answered,
    Done,
}

impl Login {
    pub(super) fn new(options: &Options) -> Self {
        let session_type = match options.kind {
            Kind::Discovery => SessionType::Discovery,
            Kind::Normal { .. } => SessionType::Normal,
        };
        Self {
            stage: Stage::Security,
            authentication: Authentication::NotOffered,
            negotiation: Negotiation::new(options.offers, session_type),
            received: TextBuffer::new(TEXT_LENGTH_MAX),
            sending: Text::new(),
            sent: 0,
            transit: false,
            transit_asked: false,
            rounds: 0,
            target_portal_group_tag: None,
            target_alias: None,
        }
    }

    /// The first request.
    pub(super) fn start(&mut self, options: &Options) -> Progress {
        let mut text = Text::new();
        text.push("InitiatorName", options.initiator_name.as_str());
        if !options.initiator_alias.is_empty() {
            text.push("InitiatorAlias", &options.initiator_alias);
        }
        match &options.kind {
            Kind::Discovery => text.push("SessionType", "Discovery"),
            Kind::Normal { target_name } => {
                text.push("SessionType", "Normal");
                text.push("TargetName", target_name.as_str());
            }
        }
        text.push("AuthMethod", methods(options.chap.as_ref()));
        if options.chap.is_some() {
            self.authentication = Authentication::Offered;
        }
        let transit = options.chap.is_none();
        self.send(text, transit)
    }

    /// Takes one answer of the target.
    pub(super) fn receive(
        &mut self,
        options: &Options,
        response: &LoginResponse,
        data: &[u8],
    ) -> Result<Progress, LoginError> {
        self.rounds += 1;
        match response.status {
            LoginStatus::Success => {}
            LoginStatus::TargetMovedTemporarily => return moved(data, Permanence::Temporary),
            LoginStatus::TargetMovedPermanently => return moved(data, Permanence::Permanent),
            refused => return Err(LoginError::Refused(refused)),
        }
        if self.rounds >= ROUNDS_MAX {
            return Err(LoginError::TooManyRounds { rounds: self.rounds });
        }
        self.check_header(options, response)?;
        self.received.push(data)?;
        if response.stages.more {
            return Ok(self.send_nothing());
        }
        if self.sent < self.sending.as_bytes().len() {
            return Ok(self.send_rest());
        }
        self.receive_text(options, response)
    }

    fn check_header(&self, options: &Options, response: &LoginResponse) -> Result<(), LoginError> {
        let LoginStages { transit, more, current, next } = response.stages;
        let misbehaved = |what| Err(LoginError::Misbehaved(what));
        if response.version_active != 0 {
            return misbehaved("it chose a version that was not offered");
        }
        if response.isid != options.isid {
            return misbehaved("it answered with another ISID");
        }
        if current != self.stage {
            return misbehaved("it answered for another stage");
        }
        if transit && more {
            return misbehaved("it ended a stage in the middle of a text");
        }
        if transit && !self.transit_asked {
            return misbehaved("it ended a stage that we had not ended");
        }
        if transit && next != self.next_stage() {
            return misbehaved("it went to a stage that was not asked for");
        }
        Ok(())
    }

    fn receive_text(&mut self, options: &Options, response: &LoginResponse) -> Result<Progress, LoginError> {
        let text = self.received.take()?;
        let mut reply = Text::new();
        for (key, value) in text.iter() {
            self.receive_pair(key, value, &mut reply)?;
        }
        let mut transit = true;
        if self.stage == Stage::Security {
            transit = self.authenticate(options.chap.as_ref(), &text, &mut reply)?;
        }
        if !response.stages.transit {
            return Ok(self.send(reply, transit));
        }
        if self.stage == Stage::Security {
            self.stage = Stage::Operational;
            let mut offers = Text::new();
            self.negotiation.offer(&mut offers);
            return Ok(self.send(offers, true));
        }
        Ok(Progress::Done(Box::new(LoggedIn {
            negotiated: self.negotiation.finish()?,
            tsih: response.tsih,
            target_portal_group_tag: self.target_portal_group_tag,
            target_alias: self.target_alias.take(),
        })))
    }

    fn receive_pair(&mut self, key: &str, value: &str, reply: &mut Text) -> Result<(), LoginError> {
        match key {
            "TargetPortalGroupTag" => {
                let tag =
                    crate::negotiation::parse_number(value).and_then(|number| u16::try_from(number).ok());
                self.target_portal_group_tag = tag;
                tag.map(drop)
                    .ok_or(LoginError::Misbehaved("its TargetPortalGroupTag is not a number of 16 bits"))
            }
            "TargetAlias" => {
                self.target_alias = Some(value.to_owned());
                Ok(())
            }
            "AuthMethod" | "TargetAddress" | "TargetName" | "InitiatorName" | "InitiatorAlias"
            | "SessionType" => Ok(()),
            chap if chap.starts_with("CHAP_") => Ok(()),
            _ => Ok(self.negotiation.receive(key, value, reply)?),
        }
    }

    /// Goes one step in the security stage; returns whether we are ready to leave it.
    fn authenticate(
        &mut self,
        chap: Option<&Chap>,
        text: &Text,
        reply: &mut Text,
    ) -> Result<bool, LoginError> {
        let Some(chap) = chap else {
            return match text.value("AuthMethod") {
                None | Some("None") => Ok(true),
                Some(other) => Err(wrong_method(None, other)),
            };
        };
        let challenge = chap.mutual.as_ref().map(|mutual| &mutual.challenge);
        let next = match self.authentication {
            Authentication::Offered => match text.value("AuthMethod").unwrap_or("nothing") {
                "CHAP" => {
                    reply.push("CHAP_A", ALGORITHM_MD5);
                    Authentication::Algorithm
                }
                "None" if chap.mutual.is_none() => Authentication::Done,
                other => return Err(wrong_method(Some(chap), other)),
            },
            Authentication::Algorithm => {
                let algorithm = text.value("CHAP_A").ok_or(crate::chap::ChapError::Missing("CHAP_A"))?;
                if algorithm != ALGORITHM_MD5 {
                    let algorithm = algorithm.chars().take(16).collect();
                    return Err(crate::chap::ChapError::AlgorithmNotOffered(algorithm).into());
                }
                PeerChallenge::parse(text, challenge)?.answer(&chap.credentials, reply);
                challenge.into_iter().for_each(|challenge| challenge.push(reply));
                Authentication::Answered
            }
            Authentication::Answered => {
                if let Some(mutual) = &chap.mutual {
                    mutual.challenge.verify(text, &mutual.credentials)?;
                }
                Authentication::Done
            }
            state @ (Authentication::NotOffered | Authentication::Done) => state,
        };
        self.authentication = next;
        Ok(matches!(next, Authentication::Answered | Authentication::Done))
    }

    fn send(&mut self, text: Text, transit: bool) -> Progress {
        self.sending = text;
        self.sent = 0;
        self.transit = transit;
        self.send_rest()
    }

    /// The next segment of our text; all but the last with the C bit (RFC 7143, 6.2).
    fn send_rest(&mut self) -> Progress {
        let rest = &self.sending.as_bytes()[self.sent..];
        let segment = rest[..rest.len().min(DATA_SEGMENT_LENGTH_DEFAULT as usize)].to_vec();
        let more = segment.len() < rest.len();
        self.sent += segment.len();
        self.transit_asked = self.transit && !more;
        Progress::Send(self.stages(more), segment)
    }

    /// Asks for the rest of the target's text.
    fn send_nothing(&mut self) -> Progress {
        self.transit_asked = false;
        Progress::Send(self.stages(false), Vec::new())
    }

    fn stages(&self, more: bool) -> LoginStages {
        let next = if self.transit_asked { self.next_stage() } else { Stage::Security };
        LoginStages { transit: self.transit_asked, more, current: self.stage, next }
    }

    fn next_stage(&self) -> Stage {
        if self.stage == Stage::Security { Stage::Operational } else { Stage::FullFeature }
    }
}

/// A target that has to prove itself must not be let off.
fn methods(chap: Option<&Chap>) -> &'static str {
    match chap {
        None => "None",
        Some(Chap { mutual: None, .. }) => "CHAP,None",
        Some(Chap { mutual: Some(_), .. }) => "CHAP",
    }
}

fn wrong_method(chap: Option<&Chap>, answered: &str) -> LoginError {
    LoginError::AuthMethod { offered: methods(chap), answered: answered.chars().take(64).collect() }
}

fn moved(data: &[u8], permanence: Permanence) -> Result<Progress, LoginError> {
    let text = Text::parse(data)?;
    let address = text.value("TargetAddress").ok_or(LoginError::MovedToNowhere)?;
    let portal = Portal::parse(address).ok_or(LoginError::MovedToNowhere)?;
    Ok(Progress::Moved { portal, permanence })
}
