//! A unit while it is being found out about: which question comes next, and what each answer adds.

use alloc::boxed::Box;
use alloc::string::{String, ToString};

use block::{Rotation, WriteCache};
use clock::Duration;
use scsi::capacity::Capacity10;
use scsi::inquiry::{DeviceType, InquiryData, PeripheralQualifier};
use scsi::port_groups::PortGroups;
use scsi::vpd::{
    self, BlockCharacteristicsPage, BlockLimitsPage, DeviceIdPage, LogicalProvisioningPage, SerialPage,
    SupportedPages,
};
use scsi::{Lba, ParseError};

use super::Rejection;
use crate::disposition::Failure;
use crate::identity::{Identity, Name, NoIdentity};
use crate::question::{Caching, Question};
use crate::unit::{
    AccessState, Addressing, Capacity, GroupAccess, Limits, Port, Provisioning, Unit, group_states,
    path_state, reports_access, rotation, sets_access, transition_max,
};
use multipath::PathState;

/// What is known so far. Everything that a device need not say has a value that is safe without it.
#[derive(Debug)]
pub(super) struct Draft {
    inquiry: Option<InquiryData>,
    pages: Option<SupportedPages>,
    identity: Option<Identity>,
    port: Port,
    serial: Option<String>,
    limits: Limits,
    provisioning: Provisioning,
    rotation: Rotation,
    access: AccessState,
    preferred: bool,
    groups: Option<Box<[GroupAccess]>>,
    transition_max: Option<Duration>,
    /// Only the short header of the port groups is known to the device server.
    needs_short_header: bool,
    capacity: Option<Capacity>,
    addressing: Addressing,
    write_cache: WriteCache,
    force_unit_access: bool,
    write_protected: bool,
}

/// What follows from an answer.
#[derive(Debug)]
pub(super) enum Next {
    Ask(Question),
    Reject(Rejection),
    Complete,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            inquiry: None,
            pages: None,
            identity: None,
            port: Port::default(),
            serial: None,
            limits: Limits::default(),
            provisioning: Provisioning::default(),
            rotation: Rotation::Unknown,
            access: AccessState::Optimized,
            preferred: false,
            groups: None,
            transition_max: None,
            needs_short_header: false,
            capacity: None,
            addressing: Addressing::Sixteen,
            // Flushing a cache that is not there costs a command; not flushing one that is costs data.
            write_cache: WriteCache::Back,
            force_unit_access: false,
            write_protected: false,
        }
    }
}

impl Draft {
    /// Takes in the answer to a question and says what comes next.
    ///
    /// # Errors
    /// What is wrong with the answer; [`ParseError::Truncated`] may only need more room.
    pub(super) fn learn(&mut self, question: Question, bytes: &[u8]) -> Result<Next, ParseError> {
        let rejection = match question {
            Question::LogicalUnits | Question::Ready => None,
            Question::Standard => self.learn_inquiry(InquiryData::parse(bytes)?),
            Question::SupportedPages => {
                self.pages = Some(SupportedPages::parse(bytes)?);
                None
            }
            Question::DeviceId => self.learn_identity(&DeviceIdPage::parse(bytes)?),
            Question::Serial => {
                self.serial = SerialPage::parse(bytes)?.text().map(ToString::to_string);
                None
            }
            Question::BlockLimits => {
                self.limits = Limits::new(&BlockLimitsPage::parse(bytes)?);
                None
            }
            Question::Provisioning => {
                self.provisioning = Provisioning::new(&LogicalProvisioningPage::parse(bytes)?);
                None
            }
            Question::Characteristics => {
                self.rotation = rotation(&BlockCharacteristicsPage::parse(bytes)?);
                None
            }
            Question::PortGroupsExtended | Question::PortGroups => {
                self.learn_access(&PortGroups::parse(bytes)?);
                self.needs_short_header = question == Question::PortGroups;
                None
            }
            Question::Capacity16 => self.learn_capacity(&scsi::capacity::Capacity::parse(bytes)?),
            Question::Capacity10 => self.learn_capacity_10(Capacity10::parse(bytes)?),
            Question::Caching6 | Question::Caching10 => {
                self.learn_caching(question, bytes)?;
                None
            }
        };
        Ok(rejection.map_or_else(|| self.after(question), Next::Reject))
    }

    /// Takes in what the unit has reported of its port groups on another path.
    pub(super) fn learn_report(&mut self, groups: &PortGroups) -> Next {
        self.learn_access(groups);
        self.after(Question::PortGroupsExtended)
    }

    pub(super) const fn needs_short_header(&self) -> bool {
        self.needs_short_header
    }

    pub(super) fn name(&self) -> Option<&Name> {
        self.identity.as_ref().map(Identity::name)
    }

    /// The target port group that the path ends at, if it is known.
    pub(super) const fn group(&self) -> Option<u16> {
        self.port.group
    }

    /// The device server does not know the question.
    pub(super) fn refused(&mut self, question: Question) -> Next {
        if let Some(simpler) = question.simpler() {
            return Next::Ask(simpler);
        }
        match question {
            Question::Standard | Question::Capacity10 => Next::Reject(Rejection::Refused { question }),
            // No vital product data: a device of SCSI-2.
            Question::SupportedPages | Question::DeviceId => {
                Next::Reject(Rejection::NoIdentity(NoIdentity::NoPage))
            }
            _ => self.after(question),
        }
    }

    /// The device server fails the question. What a disk can do without is left out.
    pub(super) fn failed(&mut self, question: Question, failure: Failure) -> Next {
        match question {
            Question::Standard | Question::SupportedPages | Question::DeviceId => match failure {
                Failure::LogicalUnitGone => Next::Reject(Rejection::NotPresent),
                _ => Next::Reject(Rejection::Failed { question, failure }),
            },
            // A port in standby or in transition need not know its capacity (SPC, asymmetric access states).
            Question::Capacity16 | Question::Capacity10 if failure == Failure::NotReady => {
                if let PathState::Usable(_) = path_state(self.access) {
                    return Next::Reject(Rejection::Failed { question, failure });
                }
                self.after(question)
            }
            Question::Capacity16 | Question::Capacity10 => {
                Next::Reject(Rejection::Failed { question, failure })
            }
            _ => self.after(question),
        }
    }

    /// The answer makes no sense.
    pub(super) fn malformed(&mut self, question: Question, error: ParseError) -> Next {
        match question {
            Question::DeviceId => Next::Reject(Rejection::NoIdentity(NoIdentity::Malformed)),
            Question::Standard | Question::SupportedPages | Question::Capacity16 | Question::Capacity10 => {
                Next::Reject(Rejection::Malformed { question, error })
            }
            // Linux's target (LIO) does not count the long header, and leaves out as many bytes at the end.
            Question::PortGroupsExtended => Next::Ask(Question::PortGroups),
            _ => self.after(question),
        }
    }

    /// The first question after `question` that this device is to be asked.
    fn after(&self, question: Question) -> Next {
        const ORDER: [Question; 10] = [
            Question::Standard,
            Question::SupportedPages,
            Question::DeviceId,
            Question::Serial,
            Question::BlockLimits,
            Question::Provisioning,
            Question::Characteristics,
            Question::PortGroupsExtended,
            Question::Capacity16,
            Question::Caching6,
        ];
        let asked = match question {
            Question::PortGroups => Question::PortGroupsExtended,
            Question::Capacity10 => Question::Capacity16,
            Question::Caching10 => Question::Caching6,
            other => other,
        };
        let rest = ORDER.iter().skip_while(|&&each| each != asked).skip(1);
        rest.copied().find(|&each| self.is_to_be_asked(each)).map_or(Next::Complete, Next::Ask)
    }

    fn is_to_be_asked(&self, question: Question) -> bool {
        let listed = |page| self.pages.as_ref().is_some_and(|pages| pages.contains(page));
        match question {
            Question::Serial => listed(vpd::SERIAL_NUMBER),
            Question::BlockLimits => listed(vpd::BLOCK_LIMITS),
            Question::Provisioning => listed(vpd::LOGICAL_PROVISIONING),
            Question::Characteristics => listed(vpd::BLOCK_CHARACTERISTICS),
            Question::PortGroupsExtended => self.reports_access(),
            // Without it there is no identity: asked even of a device that forgot to list it.
            _ => true,
        }
    }

    fn reports_access(&self) -> bool {
        self.inquiry.as_ref().is_some_and(reports_access)
    }

    fn learn_inquiry(&mut self, inquiry: InquiryData) -> Option<Rejection> {
        self.inquiry = Some(inquiry);
        match inquiry.peripheral.qualifier {
            PeripheralQualifier::Connected => {}
            _ => return Some(Rejection::NotPresent),
        }
        match inquiry.peripheral.device_type {
            DeviceType::DirectAccess => None,
            other => Some(Rejection::NotADisk(other)),
        }
    }

    fn learn_identity(&mut self, page: &DeviceIdPage) -> Option<Rejection> {
        self.port = Port { group: page.target_port_group(), relative: page.relative_target_port() };
        match Identity::from_device_id_page(page) {
            Ok(identity) => {
                self.identity = Some(identity);
                None
            }
            Err(reason) => Some(Rejection::NoIdentity(reason)),
        }
    }

    fn learn_access(&mut self, groups: &PortGroups) {
        if let Some(group) = self.port.find(groups) {
            (self.access, self.preferred) = (group.state, group.preferred);
        }
        self.groups = Some(group_states(groups));
        self.transition_max = transition_max(groups);
    }

    fn learn_capacity(&mut self, said: &scsi::capacity::Capacity) -> Option<Rejection> {
        match Capacity::new(said) {
            Ok(capacity) => {
                self.capacity = Some(capacity);
                None
            }
            Err(size) => Some(Rejection::BlockSize(size)),
        }
    }

    fn learn_capacity_10(&mut self, said: Capacity10) -> Option<Rejection> {
        self.addressing = Addressing::Ten;
        let Some(last) = said.last else {
            // More blocks than READ CAPACITY(10) can say, and READ CAPACITY(16) is refused.
            return Some(Rejection::Refused { question: Question::Capacity16 });
        };
        self.learn_capacity(&scsi::capacity::Capacity::new(Lba(last.0), said.block_size))
    }

    fn learn_caching(&mut self, question: Question, bytes: &[u8]) -> Result<(), ParseError> {
        let caching = Caching::parse(question, bytes)?;
        self.write_protected = caching.write_protected;
        self.force_unit_access = caching.force_unit_access;
        if let Some(write_cache) = caching.write_cache {
            self.write_cache = write_cache;
        }
        Ok(())
    }

    /// None only if a question was left out that may not be.
    pub(super) fn into_unit(self) -> Option<Unit> {
        let inquiry = self.inquiry?;
        Some(Unit {
            identity: self.identity?,
            serial: self.serial,
            vendor: inquiry.vendor.to_string(),
            product: inquiry.product.to_string(),
            revision: inquiry.revision.to_string(),
            device_type: inquiry.peripheral.device_type,
            capacity: self.capacity,
            addressing: self.addressing,
            limits: self.limits,
            provisioning: self.provisioning,
            rotation: self.rotation,
            write_cache: self.write_cache,
            force_unit_access: self.force_unit_access,
            write_protected: self.write_protected,
            port: self.port,
            access: self.access,
            preferred: self.preferred,
            groups: self.groups,
            reports_access: reports_access(&inquiry),
            sets_access: sets_access(&inquiry),
            transition_max: self.transition_max,
            knows_long_header: !self.needs_short_header,
        })
    }
}
