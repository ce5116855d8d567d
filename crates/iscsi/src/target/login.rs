//! The login phase (RFC 7143, section 6 and 11.12 to 11.13), as the side that answers.

use super::data::Limits;
use super::portals::Chap;
use super::session::{Kind, Phase, Session};
use super::{Action, Admitted, Disconnect, Misbehaved, OUTSTANDING_R2T_MAX, Options, SessionKey};
use crate::chap::PeerChallenge;
use crate::negotiation::{DATA_SEGMENT_LENGTH_DEFAULT, Negotiated, Negotiation, Offers, SessionType};
use crate::pdu::{Header, Isid, LoginRequest, LoginResponse, LoginStages, LoginStatus, Opcode, Stage};
use crate::stream::Digests;
use crate::text::{Text, TextBuffer};

/// Everything about a login that has not succeeded yet.
#[derive(Debug)]
pub(super) struct Login {
    /// The request that is to be answered.
    request: Option<LoginRequest>,
    requests: u32,
    /// A first header has come, and it looked like a login.
    pub(super) greeted: bool,
    text: TextBuffer,
    stage: Stage,
    identity: Option<Identity>,
    authentication: Authentication,
    negotiation: Negotiation,
    /// The answer that waits to be admitted, and what will hold then.
    waiting: Option<(Text, Negotiated)>,
}

#[derive(Clone, Debug)]
struct Identity {
    initiator_name: String,
    isid: Isid,
    tsih: u16,
    kind: Kind,
    chap: Option<Chap>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authentication {
    /// No method is agreed on.
    Open,
    /// CHAP is, and the initiator has to say with which algorithm.
    Chosen,
    /// It has our challenge.
    Challenged,
    Done,
}

/// What to answer, and whether the login goes on to the stage that was asked for.
struct Answer {
    text: Text,
    transit: bool,
}

/// Logins take four to six requests; more is somebody who plays for time.
const REQUESTS_MAX: u32 = 32;
/// Text of one login request with its continuations, in bytes. Linux sends some 600.
const TEXT_MAX: usize = 8192;
/// The only version there is (RFC 7143, 11.12.4).
const VERSION: u8 = 0;
/// Byte 0 of every login request: the opcode with the immediate bit.
const LOGIN_BYTE: u8 = 0x43;

impl Login {
    pub(super) fn new(offers: Offers) -> Self {
        Self {
            request: None,
            requests: 0,
            greeted: false,
            text: TextBuffer::new(TEXT_MAX),
            stage: Stage::Security,
            identity: None,
            authentication: Authentication::Open,
            negotiation: Negotiation::new(offers, SessionType::Normal),
            waiting: None,
        }
    }

    /// Whether the driver has to say whether the session may begin.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Checks a request against those before it.
    fn check(&mut self, pdu: &LoginRequest) -> Result<(), LoginStatus> {
        self.requests += 1;
        let previous = self.request.replace(*pdu);
        let stages = pdu.stages;
        if self.requests == 1 {
            if pdu.version_min > VERSION {
                return Err(LoginStatus::UnsupportedVersion);
            }
            self.stage = stages.current;
        }
        let continues = previous.is_none_or(|previous| {
            (previous.isid, previous.tsih, previous.connection_id) == (pdu.isid, pdu.tsih, pdu.connection_id)
        });
        let forwards = match (stages.current, stages.next) {
            (Stage::Security, Stage::Operational | Stage::FullFeature) => true,
            (Stage::Operational, Stage::FullFeature) => true,
            (Stage::Security | Stage::Operational, _) => !stages.transit,
            _ => false,
        };
        let consistent =
            continues && stages.current == self.stage && forwards && !(stages.more && stages.transit);
        if consistent && self.requests <= REQUESTS_MAX { Ok(()) } else { Err(LoginStatus::InitiatorError) }
    }

    /// Answers the complete text of a request.
    fn answer(&mut self, pdu: &LoginRequest, text: &Text, options: &Options) -> Result<Answer, LoginStatus> {
        let mut reply = Text::new();
        let identity = match self.identity.clone() {
            Some(identity) => identity,
            None => {
                let identity = identify(pdu, text, options)?;
                announce(&identity, options, &mut reply);
                if identity.kind == Kind::Discovery {
                    self.negotiation = Negotiation::new(options.offers, SessionType::Discovery);
                }
                self.identity = Some(identity.clone());
                identity
            }
        };
        let mut transit = pdu.stages.transit;
        if self.stage == Stage::Security {
            self.authenticate(text, identity.chap.as_ref(), options, &mut reply)?;
            let open = identity.chap.is_none() && self.authentication == Authentication::Open;
            if transit && self.authentication == Authentication::Open && !open {
                // Wants to go on without having said anything about authentication.
                return Err(LoginStatus::AuthenticationFailed);
            }
            transit &= open || self.authentication == Authentication::Done;
        } else if identity.chap.is_some() && self.authentication != Authentication::Done {
            return Err(LoginStatus::AuthenticationFailed);
        }
        for (key, value) in text.iter().filter(|(key, _)| !is_declared_elsewhere(key)) {
            self.negotiation.receive(key, value, &mut reply).map_err(|_| LoginStatus::InitiatorError)?;
        }
        if self.stage == Stage::Operational {
            self.negotiation.declare(&mut reply);
        }
        // The initiator has not been told that it may take more in one PDU.
        if reply.as_bytes().len() > DATA_SEGMENT_LENGTH_DEFAULT as usize {
            return Err(LoginStatus::InitiatorError);
        }
        Ok(Answer { text: reply, transit })
    }

    /// RFC 7143, 12.1.3: AuthMethod, then the algorithm, then name and response, each in its own request.
    fn authenticate(
        &mut self,
        text: &Text,
        chap: Option<&Chap>,
        options: &Options,
        reply: &mut Text,
    ) -> Result<(), LoginStatus> {
        let failed = LoginStatus::AuthenticationFailed;
        if let Some(methods) = text.value("AuthMethod") {
            let method = if chap.is_some() { "CHAP" } else { "None" };
            if self.authentication != Authentication::Open || !lists(methods, method) {
                return Err(failed);
            }
            reply.push("AuthMethod", method);
            self.authentication = if chap.is_some() { Authentication::Chosen } else { Authentication::Done };
        }
        let Some(chap) = chap else { return Ok(()) };
        if let Some(algorithms) = text.value("CHAP_A") {
            if self.authentication != Authentication::Chosen || !lists(algorithms, crate::chap::ALGORITHM_MD5)
            {
                return Err(failed);
            }
            reply.push("CHAP_A", crate::chap::ALGORITHM_MD5);
            options.challenge.push(reply);
            self.authentication = Authentication::Challenged;
        }
        if text.value("CHAP_N").is_some() || text.value("CHAP_R").is_some() {
            if self.authentication != Authentication::Challenged {
                return Err(failed);
            }
            options.challenge.verify(text, &chap.initiator).map_err(|_| failed)?;
            if text.value("CHAP_C").is_some() {
                let challenge = PeerChallenge::parse(text, Some(&options.challenge)).map_err(|_| failed)?;
                challenge.answer(chap.target.as_ref().ok_or(failed)?, reply);
            }
            self.authentication = Authentication::Done;
        }
        Ok(())
    }
}

impl Session {
    /// Tells something else from iSCSI by its first bytes, before it is taken for the lengths of a header.
    pub(super) fn check_first_bytes(&mut self) {
        let Phase::Login(login) = &self.phase else { return };
        if login.greeted {
            return;
        }
        if let Some(&first) = self.incoming.staged().first_chunk::<8>()
            && first[0] != LOGIN_BYTE
        {
            self.disconnect(Disconnect::NotIscsi { first });
        }
    }

    pub(super) fn login_pdu(&mut self, header: &Header) -> Result<(), Misbehaved> {
        if header.opcode() != Opcode::LoginRequest {
            return Err(Misbehaved::NotLogin(header.opcode()));
        }
        let pdu = LoginRequest::parse(header);
        if let Err(status) = self.log_in(&pdu) {
            self.refuse_login(status);
        }
        Ok(())
    }

    fn log_in(&mut self, pdu: &LoginRequest) -> Result<(), LoginStatus> {
        let Phase::Login(login) = &mut self.phase else { return Ok(()) };
        if login.requests == 0 {
            self.numbers = super::command::Numbers::new(pdu.serials.cmd_sn);
            self.connection_id = pdu.connection_id;
        }
        login.check(pdu)?;
        login.text.push(self.incoming.data()).map_err(|_| LoginStatus::InitiatorError)?;
        if pdu.stages.more {
            self.respond_to_login(pdu, &Text::new(), false, 0);
            return Ok(());
        }
        let text = login.text.take().map_err(|_| LoginStatus::InitiatorError)?;
        let answer = login.answer(pdu, &text, &self.options)?;
        if answer.transit && pdu.stages.next == Stage::FullFeature {
            let negotiated = login.negotiation.finish().map_err(|_| LoginStatus::InitiatorError)?;
            login.waiting = Some((answer.text, negotiated));
            self.ask_to_admit();
            return Ok(());
        }
        if answer.transit {
            login.stage = pdu.stages.next;
        }
        self.respond_to_login(pdu, &answer.text, answer.transit, 0);
        Ok(())
    }

    fn ask_to_admit(&mut self) {
        let Phase::Login(login) = &self.phase else { return };
        let Some(identity) = &login.identity else { return };
        let key = SessionKey {
            initiator_name: identity.initiator_name.clone(),
            isid: identity.isid,
            target_name: identity.kind.target_name(),
            portal_group: self.options.portal_group,
        };
        self.actions.push_back(Action::Admit { key, tsih: identity.tsih });
    }

    /// The driver lets the session begin.
    pub(super) fn admitted(&mut self, tsih: u16) {
        let Phase::Login(login) = &mut self.phase else { return };
        let (Some((text, negotiated)), Some(identity), Some(pdu)) =
            (login.waiting.take(), login.identity.take(), login.request)
        else {
            return;
        };
        self.respond_to_login(&pdu, &text, true, tsih);
        self.begin_full_feature(&negotiated);
        self.kind = identity.kind.clone();
        self.actions.push_back(Action::LoggedIn(Admitted {
            tsih,
            initiator_name: identity.initiator_name,
            isid: identity.isid,
            target_name: identity.kind.target_name(),
        }));
    }

    fn begin_full_feature(&mut self, negotiated: &Negotiated) {
        let digests = Digests { header: negotiated.header_digest, data: negotiated.data_digest };
        self.incoming.set_digests(digests);
        self.outgoing.set_digests(digests);
        self.incoming.set_data_length_max(negotiated.max_recv_data_segment_length);
        self.peer_segment_max = negotiated.max_send_data_segment_length;
        self.limits = Limits {
            initial_r2t: negotiated.initial_r2t,
            immediate_data: negotiated.immediate_data,
            first_burst: negotiated.first_burst_length,
            max_burst: negotiated.max_burst_length,
            outstanding_r2t: u32::from(negotiated.max_outstanding_r2t.min(OUTSTANDING_R2T_MAX)),
        };
        self.phase = Phase::FullFeature;
    }

    /// Says why there is no session, and ends the connection.
    pub(super) fn refuse_login(&mut self, status: LoginStatus) {
        let Phase::Login(login) = &self.phase else { return };
        if let Some(pdu) = login.request {
            let stages = LoginStages { transit: false, more: false, ..pdu.stages };
            self.push_login_response(&pdu, stages, status, &Text::new(), 0);
        }
        self.flush(Disconnect::LoginRefused(status));
    }

    fn respond_to_login(&mut self, pdu: &LoginRequest, text: &Text, transit: bool, tsih: u16) {
        let stages = LoginStages {
            transit,
            more: false,
            current: pdu.stages.current,
            // Reserved without the T bit.
            next: if transit { pdu.stages.next } else { Stage::Security },
        };
        self.push_login_response(pdu, stages, LoginStatus::Success, text, tsih);
    }

    fn push_login_response(
        &mut self,
        pdu: &LoginRequest,
        stages: LoginStages,
        status: LoginStatus,
        text: &Text,
        tsih: u16,
    ) {
        let serials = self.status_serials();
        let response = LoginResponse {
            stages,
            version_max: VERSION,
            version_active: VERSION,
            isid: pdu.isid,
            tsih,
            initiator_task_tag: pdu.initiator_task_tag,
            serials,
            status,
        };
        self.outgoing.push_own(response.emit(), None, text.as_bytes().to_vec());
    }
}

impl Kind {
    fn target_name(&self) -> Option<String> {
        match self {
            Self::Discovery => None,
            Self::Normal { target_name } => Some(target_name.clone()),
        }
    }
}

/// Who wants what: must stand in the first request (RFC 7143, 6.3 and 13.4 to 13.21).
fn identify(pdu: &LoginRequest, text: &Text, options: &Options) -> Result<Identity, LoginStatus> {
    let initiator_name = text.value("InitiatorName").ok_or(LoginStatus::MissingParameter)?;
    if initiator_name.is_empty() || initiator_name.len() > crate::name::NAME_LENGTH_MAX {
        return Err(LoginStatus::InitiatorError);
    }
    let (kind, chap) = match text.value("SessionType").unwrap_or("Normal") {
        "Discovery" => (Kind::Discovery, options.portals.discovery_chap.clone()),
        "Normal" => {
            let name = text.value("TargetName").ok_or(LoginStatus::MissingParameter)?;
            let target = options.portals.target(name).ok_or(LoginStatus::TargetNotFound)?;
            if !target.portals.iter().any(|portal| portal.group == options.portal_group) {
                return Err(LoginStatus::TargetNotFound);
            }
            (Kind::Normal { target_name: target.name.clone() }, target.chap.clone())
        }
        _ => return Err(LoginStatus::SessionTypeNotSupported),
    };
    let initiator_name = initiator_name.to_owned();
    Ok(Identity { initiator_name, isid: pdu.isid, tsih: pdu.tsih, kind, chap })
}

/// What the first response says about the target (RFC 7143, 13.9).
fn announce(identity: &Identity, options: &Options, reply: &mut Text) {
    let Kind::Normal { target_name } = &identity.kind else { return };
    reply.push("TargetPortalGroupTag", &options.portal_group.to_string());
    if let Some(alias) = options.portals.target(target_name).and_then(|target| target.alias.as_deref()) {
        reply.push("TargetAlias", alias);
    }
}

/// Keys that are no offers: names, and those of the security stage.
fn is_declared_elsewhere(key: &str) -> bool {
    matches!(key, "InitiatorName" | "InitiatorAlias" | "TargetName" | "SessionType" | "AuthMethod")
        || key.starts_with("CHAP_")
}

fn lists(values: &str, wanted: &str) -> bool {
    values.split(',').any(|value| value == wanted)
}
