//! Mode pages: what of a unit's behaviour an initiator may change (SPC, 6.13 and 7.5; SBC, 6.5).

use alloc::vec::Vec;

use scsi::cdb::{ModeForm, PageControl};
use scsi::mode::{
    ALL_PAGES, BlockDescriptor, BlockDescriptors, CACHING, CONTROL, CachingPage, ControlPage, ModePage,
    ModeParameters,
};
use scsi::{Sense, SenseFormat};

use crate::refusal;
use crate::topology::WriteCache;
use crate::unit::Unit;

/// The settings behind the caching and control mode pages, three times (SPC, 6.14: PC).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Modes {
    current: Settings,
    saved: Settings,
    default: Settings,
}

/// What can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    /// WCE.
    write_cache: WriteCache,
    /// D_SENSE.
    sense_format: SenseFormat,
    /// SWP.
    software_write_protect: bool,
    /// TAS.
    task_aborted_status: bool,
}

/// What MODE SENSE asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) form: ModeForm,
    pub(crate) long_lba_accepted: bool,
    pub(crate) disable_block_descriptors: bool,
    pub(crate) control: PageControl,
    pub(crate) page: u8,
    pub(crate) subpage: u8,
}

/// Whether somebody else has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Made,
}

/// BUSY TIMEOUT PERIOD: not limited (SPC, 7.5.9).
const BUSY_TIMEOUT: u16 = 0xffff;
/// QUEUE ALGORITHM MODIFIER: commands may be reordered without restriction.
const UNRESTRICTED_REORDERING: u8 = 1;
/// Subpage codes that ask for the page itself, and for it with all its subpages.
const NO_SUBPAGE: u8 = 0x00;
const ALL_SUBPAGES: u8 = 0xff;

impl Modes {
    pub(crate) const fn new(write_cache: WriteCache) -> Self {
        let settings = Settings {
            write_cache,
            sense_format: SenseFormat::Fixed,
            software_write_protect: false,
            task_aborted_status: false,
        };
        Self { current: settings, saved: settings, default: settings }
    }

    /// A reset brings the saved values back (SPC, 6.13).
    pub(crate) const fn reset(&mut self) {
        self.current = self.saved;
    }

    pub(crate) fn write_cache_enabled(&self) -> bool {
        self.current.write_cache == WriteCache::Back
    }

    pub(crate) const fn sense_format(&self) -> SenseFormat {
        self.current.sense_format
    }

    pub(crate) const fn software_write_protect(&self) -> bool {
        self.current.software_write_protect
    }

    pub(crate) const fn task_aborted_status(&self) -> bool {
        self.current.task_aborted_status
    }

    fn page(&self, code: u8, control: PageControl) -> Option<ModePage> {
        let page = match control {
            PageControl::Changeable => changeable(code)?,
            PageControl::Current => self.current.page(code)?,
            PageControl::Default => self.default.page(code)?,
            PageControl::Saved => self.saved.page(code)?,
        };
        Some(ModePage { savable: true, ..page })
    }
}

impl Settings {
    fn page(&self, code: u8) -> Option<ModePage> {
        match code {
            CACHING => {
                let write_cache = self.write_cache == WriteCache::Back;
                Some(CachingPage { write_cache, ..CachingPage::default() }.into())
            }
            CONTROL => {
                let page = ControlPage {
                    descriptor_sense: self.sense_format == SenseFormat::Descriptor,
                    queue_algorithm: UNRESTRICTED_REORDERING,
                    software_write_protect: self.software_write_protect,
                    task_aborted_status: self.task_aborted_status,
                    busy_timeout: BUSY_TIMEOUT,
                    ..ControlPage::default()
                };
                Some(page.into())
            }
            _ => None,
        }
    }

    /// Takes from a page what can be changed.
    fn apply(&mut self, page: &ModePage) {
        if let Some(page) = page.caching() {
            self.write_cache = if page.write_cache { WriteCache::Back } else { WriteCache::Through };
        }
        if let Some(page) = page.control() {
            self.sense_format =
                if page.descriptor_sense { SenseFormat::Descriptor } else { SenseFormat::Fixed };
            self.software_write_protect = page.software_write_protect;
            self.task_aborted_status = page.task_aborted_status;
        }
    }
}

/// A mask of the bits of a page that can be changed.
fn changeable(code: u8) -> Option<ModePage> {
    match code {
        CACHING => Some(CachingPage { write_cache: true, ..CachingPage::default() }.into()),
        CONTROL => {
            let page = ControlPage {
                descriptor_sense: true,
                software_write_protect: true,
                task_aborted_status: true,
                ..ControlPage::default()
            };
            Some(page.into())
        }
        _ => None,
    }
}

impl Unit {
    /// MODE SENSE parameter data.
    pub(crate) fn mode_sense(&self, question: Question) -> Result<Vec<u8>, Sense> {
        if !matches!(question.subpage, NO_SUBPAGE | ALL_SUBPAGES) {
            return Err(refusal::invalid_field(3, None));
        }
        let codes: &[u8] = match question.page {
            ALL_PAGES => &[CACHING, CONTROL],
            CACHING => &[CACHING],
            CONTROL => &[CONTROL],
            _ => return Err(refusal::invalid_field(2, Some(5))),
        };
        let parameters = ModeParameters {
            medium_type: 0,
            write_protected: self.check_writable().is_err(),
            dpo_fua: true,
            block_descriptors: self.block_descriptors(question),
            pages: codes.iter().filter_map(|code| self.modes.page(*code, question.control)).collect(),
        };
        Ok(parameters.emit(question.form))
    }

    fn block_descriptors(&self, question: Question) -> BlockDescriptors {
        let descriptor = BlockDescriptor { blocks: self.blocks(), block_size: self.block_size };
        if question.disable_block_descriptors {
            BlockDescriptors::default()
        } else if question.long_lba_accepted && question.form == ModeForm::Ten {
            BlockDescriptors::Long([descriptor].into())
        } else {
            BlockDescriptors::Short([descriptor].into())
        }
    }

    /// MODE SELECT: all of the list, or nothing of it.
    pub(crate) fn mode_select(&mut self, form: ModeForm, save: bool, list: &[u8]) -> Result<Change, Sense> {
        if list.is_empty() {
            return Ok(Change::None);
        }
        // All that can be wrong with its form is that it ends too early.
        let parameters =
            ModeParameters::parse_select(form, list).map_err(|_| refusal::parameter_list_length())?;
        let (header, descriptor) = match (form, &parameters.block_descriptors) {
            (ModeForm::Six, _) => (4, 8),
            (ModeForm::Ten, BlockDescriptors::Short(_)) => (8, 8),
            (ModeForm::Ten, BlockDescriptors::Long(_)) => (8, 16),
        };
        self.check_descriptors(header, parameters.block_descriptors.as_slice())?;
        let mut at = header + descriptor * parameters.block_descriptors.as_slice().len();
        let mut wanted = self.modes.current;
        for page in &parameters.pages {
            self.check_page(at, page)?;
            wanted.apply(page);
            at += 2 + page.bytes.len();
        }
        let change = if wanted == self.modes.current { Change::None } else { Change::Made };
        self.modes.current = wanted;
        if save {
            self.modes.saved = wanted;
        }
        Ok(change)
    }

    /// The unit cannot be given another capacity or block size this way.
    fn check_descriptors(&self, at: usize, descriptors: &[BlockDescriptor]) -> Result<(), Sense> {
        let all = [0, self.blocks(), self.blocks().min(u32::MAX.into())];
        let same = |descriptor: &BlockDescriptor| {
            descriptor.block_size == self.block_size && all.contains(&descriptor.blocks)
        };
        if descriptors.iter().all(same) { Ok(()) } else { Err(refusal::invalid_parameter(offset(at), None)) }
    }

    /// A page is as long as ours, and differs only where it can be changed (SPC, 6.11). `at` is where it begins.
    fn check_page(&self, at: usize, page: &ModePage) -> Result<(), Sense> {
        let (Some(current), Some(mask), None) =
            (self.modes.current.page(page.code), changeable(page.code), page.subpage)
        else {
            return Err(refusal::invalid_parameter(offset(at), Some(5)));
        };
        if page.bytes.len() != current.bytes.len() {
            return Err(refusal::invalid_parameter(offset(at + 1), None));
        }
        let bytes = page.bytes.iter().zip(&current.bytes).zip(&mask.bytes);
        match bytes.map(|((new, old), mask)| (new ^ old) & !mask).position(|fixed| fixed != 0) {
            None => Ok(()),
            Some(place) => Err(refusal::invalid_parameter(offset(at + 2 + place), None)),
        }
    }
}

fn offset(byte: usize) -> u16 {
    u16::try_from(byte).unwrap_or(u16::MAX)
}
