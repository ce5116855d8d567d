//! Questions about a logical unit, and what an ending means as an answer. Surveys ask them to find units, disks
//! ask them again when a device says that something changed.

use core::fmt;

use block::{Buffer, WriteCache};
use clock::{Duration, Instant};
use scsi::cdb::Cdb;
use scsi::cdb::{ModeForm, PageControl, PortGroupsFormat, SelectReport};
use scsi::mode::{self, CachingPage, ModeParameters};
use scsi::{CommandId, Ending, ParseError, Residual, Status, TaskAttribute, Transfer, vpd};

use crate::command::{Command, Context, Kind};
use crate::disposition::{CommandClass, Failure, Fate, PathEffect, disposition};

/// One thing to know. Each is one command that only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// REPORT LUNS.
    LogicalUnits,
    /// Standard INQUIRY data.
    Standard,
    SupportedPages,
    DeviceId,
    Serial,
    BlockLimits,
    Provisioning,
    Characteristics,
    /// READ CAPACITY(16).
    Capacity16,
    Capacity10,
    /// The caching mode page and the mode parameter header, by MODE SENSE(6).
    Caching6,
    Caching10,
    /// REPORT TARGET PORT GROUPS with the extended header.
    PortGroupsExtended,
    PortGroups,
    /// TEST UNIT READY.
    Ready,
}

/// A question that is being asked.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) question: Question,
    /// Bytes there is room for.
    allocation: u32,
    /// Times that it was asked, as far as the limits below count them.
    attempts: u8,
}

/// What an ending means as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// So many bytes of it.
    Data(usize),
    /// None yet: ask again then.
    Again(Instant),
    /// The device server does not know the question.
    Refused,
    Failed(Failure),
    /// The nexus is lost.
    Lost,
}

/// A list of as many logical units as are parsed ([`scsi::luns::LUNS_MAX`]), and its header.
const LIST_LENGTH_MAX: u32 = 8 + 8 * 16_384;
/// Attempts at a question that another try may answer, with a pause between them.
const ATTEMPTS_MAX: u8 = 10;
/// What a target does while its port groups change, it does for seconds.
const TRANSITION_PAUSE: Duration = Duration::from_secs(1);
/// After an abort: there was a timeout before it.
const ABORTED_PAUSE: Duration = Duration::from_millis(100);

impl Question {
    /// Enough for nearly every device, so that asking twice is rare.
    const fn first_allocation(self) -> u32 {
        match self {
            Self::LogicalUnits => 4096,
            Self::Standard => 96,
            // The longest page with one length byte; older devices misread longer ones.
            Self::SupportedPages | Self::Serial => 255,
            Self::DeviceId | Self::PortGroupsExtended | Self::PortGroups => 1024,
            Self::BlockLimits | Self::Provisioning | Self::Characteristics => 64,
            Self::Capacity16 => 32,
            Self::Capacity10 => 8,
            Self::Caching6 => 192,
            Self::Caching10 => 256,
            Self::Ready => 0,
        }
    }

    /// The most that is asked for, whatever the device says it has.
    const fn allocation_max(self) -> u32 {
        match self {
            Self::LogicalUnits => LIST_LENGTH_MAX,
            // What the allocation length field holds, cut to what SPC lets the pages be.
            Self::SupportedPages | Self::Serial | Self::DeviceId => u16::MAX as u32,
            Self::PortGroupsExtended | Self::PortGroups => 64 << 10,
            Self::BlockLimits | Self::Provisioning | Self::Characteristics => 1024,
            // What the 6-byte form can say; and room for a device that sends its block descriptors anyway.
            Self::Caching6 => u8::MAX as u32,
            Self::Caching10 => 1024,
            _ => self.first_allocation(),
        }
    }

    fn cdb(self, allocation: u32) -> Cdb {
        let short = u16::try_from(allocation).unwrap_or(u16::MAX);
        let vital = |page| Cdb::Inquiry { page: Some(page), allocation_length: short };
        match self {
            Self::LogicalUnits => {
                Cdb::ReportLuns { select: SelectReport::Addressable, allocation_length: allocation }
            }
            Self::Standard => Cdb::Inquiry { page: None, allocation_length: short },
            Self::SupportedPages => vital(vpd::SUPPORTED_PAGES),
            Self::DeviceId => vital(vpd::DEVICE_ID),
            Self::Serial => vital(vpd::SERIAL_NUMBER),
            Self::BlockLimits => vital(vpd::BLOCK_LIMITS),
            Self::Provisioning => vital(vpd::LOGICAL_PROVISIONING),
            Self::Characteristics => vital(vpd::BLOCK_CHARACTERISTICS),
            Self::Capacity16 => Cdb::ReadCapacity16 { allocation_length: allocation },
            Self::Capacity10 => Cdb::ReadCapacity10,
            Self::Caching6 => caching(ModeForm::Six, short),
            Self::Caching10 => caching(ModeForm::Ten, short),
            Self::PortGroupsExtended => port_groups(PortGroupsFormat::Extended, allocation),
            Self::PortGroups => port_groups(PortGroupsFormat::LengthOnly, allocation),
            Self::Ready => Cdb::TestUnitReady,
        }
    }

    pub(crate) const fn is_of_port_groups(self) -> bool {
        matches!(self, Self::PortGroupsExtended | Self::PortGroups)
    }

    /// The same question in words that an older device server knows.
    pub(crate) const fn simpler(self) -> Option<Self> {
        match self {
            Self::Capacity16 => Some(Self::Capacity10),
            Self::Caching6 => Some(Self::Caching10),
            Self::PortGroupsExtended => Some(Self::PortGroups),
            _ => None,
        }
    }
}

/// What MODE SENSE of the caching page says (SBC, mode parameters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caching {
    pub(crate) write_protected: bool,
    pub(crate) force_unit_access: bool,
    /// None if the device has no caching page.
    pub(crate) write_cache: Option<WriteCache>,
}

impl Caching {
    pub(crate) fn parse(question: Question, bytes: &[u8]) -> Result<Self, ParseError> {
        let form = if question == Question::Caching6 { ModeForm::Six } else { ModeForm::Ten };
        let parameters = ModeParameters::parse(form, bytes)?;
        let write_cache = |page: CachingPage| {
            if page.write_cache { WriteCache::Back } else { WriteCache::Through }
        };
        Ok(Self {
            write_protected: parameters.write_protected,
            force_unit_access: parameters.dpo_fua,
            write_cache: parameters.caching().map(write_cache),
        })
    }
}

const fn caching(form: ModeForm, allocation_length: u16) -> Cdb {
    Cdb::ModeSense {
        form,
        long_lba_accepted: false,
        disable_block_descriptors: true,
        control: PageControl::Current,
        page: mode::CACHING,
        subpage: 0,
        allocation_length,
    }
}

const fn port_groups(format: PortGroupsFormat, allocation_length: u32) -> Cdb {
    Cdb::ReportTargetPortGroups { format, allocation_length }
}

impl Asking {
    pub(crate) const fn new(question: Question) -> Self {
        Self { question, allocation: question.first_allocation(), attempts: 0 }
    }

    pub(crate) fn command(&self, id: CommandId, kind: Kind) -> Command {
        Command {
            id,
            cdb: self.question.cdb(self.allocation).emit(),
            attribute: TaskAttribute::Simple,
            transfer: match self.allocation {
                0 => Transfer::None,
                length => Transfer::FromDevice { offset: 0, length },
            },
            buffer: Buffer::zeroed(self.allocation as usize),
            context: Context(kind),
        }
    }

    /// Makes room for `needed` bytes; whether asking again with that makes sense.
    pub(crate) fn enlarge(&mut self, needed: usize) -> bool {
        let wanted = u32::try_from(needed).unwrap_or(u32::MAX).min(self.question.allocation_max());
        let larger = wanted > self.allocation;
        self.allocation = self.allocation.max(wanted);
        larger
    }

    /// Sense other than success counts an attempt; what another try cannot change ends the question.
    pub(crate) fn answer(&mut self, now: Instant, ending: &Ending) -> Answer {
        if let Some(length) = self.received(ending) {
            return Answer::Data(length);
        }
        let disposition = disposition(CommandClass::Read, ending);
        match disposition.fate {
            // A recovered error: the data is there.
            Fate::Complete => Answer::Data(self.allocation as usize),
            Fate::Fail(Failure::Unsupported) => Answer::Refused,
            Fate::Retry(_) if matches!(disposition.path, PathEffect::Standby | PathEffect::Unavailable) => {
                Answer::Failed(Failure::NotReady)
            }
            // Whether it is ready was the question; its port group is asked about when the transition ends.
            Fate::Retry(_)
                if disposition.path == PathEffect::Transitioning && self.question == Question::Ready =>
            {
                Answer::Failed(Failure::NotReady)
            }
            Fate::Retry(_) if disposition.path == PathEffect::Transitioning => {
                self.again(now + TRANSITION_PAUSE, ATTEMPTS_MAX, Failure::NotReady)
            }
            Fate::Retry(retry) => self.again(now + retry.pause, retry.times, retry.failure),
            Fate::Failover(_) if matches!(ending, Ending::Lost | Ending::NotSent) => Answer::Lost,
            Fate::Failover(failure @ (Failure::Aborted | Failure::Transport)) => {
                self.again(now + ABORTED_PAUSE, ATTEMPTS_MAX, failure)
            }
            Fate::Fail(failure) | Fate::Failover(failure) | Fate::Ambiguous(failure) => {
                Answer::Failed(failure)
            }
        }
    }

    /// An allocation length is a limit, so that fewer bytes than that are no error here.
    fn received(&self, ending: &Ending) -> Option<usize> {
        match ending {
            Ending::Reply(reply) if reply.status == Status::Good => {
                let missing = match reply.residual {
                    Residual::Underflow(missing) => missing,
                    Residual::None | Residual::Overflow(_) => 0,
                };
                Some(self.allocation.saturating_sub(missing) as usize)
            }
            _ => None,
        }
    }

    fn again(&mut self, at: Instant, times: u8, failure: Failure) -> Answer {
        self.attempts += 1;
        if self.attempts > times { Answer::Failed(failure) } else { Answer::Again(at) }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LogicalUnits => "REPORT LUNS",
            Self::Standard => "INQUIRY",
            Self::SupportedPages => "INQUIRY of VPD page 00h",
            Self::DeviceId => "INQUIRY of VPD page 83h",
            Self::Serial => "INQUIRY of VPD page 80h",
            Self::BlockLimits => "INQUIRY of VPD page B0h",
            Self::Provisioning => "INQUIRY of VPD page B2h",
            Self::Characteristics => "INQUIRY of VPD page B1h",
            Self::Capacity16 => "READ CAPACITY(16)",
            Self::Capacity10 => "READ CAPACITY(10)",
            Self::Caching6 => "MODE SENSE(6)",
            Self::Caching10 => "MODE SENSE(10)",
            Self::PortGroupsExtended | Self::PortGroups => "REPORT TARGET PORT GROUPS",
            Self::Ready => "TEST UNIT READY",
        })
    }
}
