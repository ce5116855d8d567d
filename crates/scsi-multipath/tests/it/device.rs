//! A logical unit that answers commands at once. Its ports share one medium.

use std::collections::BTreeMap;

use scsi::capacity::{Capacity, Capacity10};
use scsi::cdb::{Cdb, PortGroupsFormat};
use scsi::inquiry::{InquiryData, Peripheral, PortGroupSupport};
use scsi::mode::{CachingPage, ModePage, ModeParameters};
use scsi::port_groups::{AccessState, PortGroup, PortGroups, SetPortGroups, StateChange, SupportedStates};
use scsi::unmap::UnmapList;
use scsi::vpd::{
    self, BlockCharacteristicsPage, BlockLimitsPage, CodeSet, Designator, DesignatorType, DeviceIdPage,
    LogicalProvisioningPage, SerialPage, SupportedPages,
};
use scsi::{AdditionalSense, Ascii, Lba, Reply, Residual, Sense, SenseKey};

pub(crate) const BLOCK: usize = 512;
/// The same as a length on the wire.
pub(crate) const BLOCK_LENGTH: u32 = 512;

/// One logical unit; group 1 is port 1, group 2 is port 2, and so on.
pub(crate) struct Device {
    pub(crate) medium: Vec<u8>,
    pub(crate) designators: Vec<Designator>,
    pub(crate) tpgs: PortGroupSupport,
    pub(crate) peripheral: Peripheral,
    pub(crate) revision: &'static str,
    pub(crate) access: BTreeMap<u16, AccessState>,
    pub(crate) preferred: Option<u16>,
    /// What is reported of groups that report something else than how they stand; none: nothing.
    pub(crate) reported_access: BTreeMap<u16, Option<AccessState>>,
    /// Port groups reported with the header of 8 bytes, if that is asked for.
    pub(crate) long_header: LongHeader,
    pub(crate) write_cache: bool,
    pub(crate) force_unit_access: bool,
    pub(crate) write_protected: bool,
    pub(crate) limits: BlockLimitsPage,
    pub(crate) provisioning: LogicalProvisioningPage,
    /// Of VPD page B1h; none: the device does not have the page.
    pub(crate) rotation_rate: Option<u16>,
    /// Operation codes that are answered with INVALID COMMAND OPERATION CODE.
    pub(crate) unknown: Vec<u8>,
    pub(crate) reported_blocks: u64,
    /// What single ports report instead, while a change has not come through to all.
    pub(crate) blocks_at: BTreeMap<u16, u64>,
    /// Every command executed: port, operation code.
    pub(crate) log: Vec<(u16, u8)>,
    /// Writes that no flush has covered.
    pub(crate) unflushed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LongHeader {
    Known,
    Refused,
    /// As LIO has it: the length is that of the groups alone, and so the last four bytes are not there.
    NotCounted,
}

impl Device {
    /// A thick disk with a write-back cache and FUA; its name ends in `seed`.
    pub(crate) fn new(blocks: usize, seed: u8) -> Self {
        let mut naa = [0x11; 16];
        naa[0] = 0x60;
        naa[15] = seed;
        Self {
            medium: vec![0; blocks * BLOCK],
            designators: vec![Designator::of_logical_unit(DesignatorType::Naa, CodeSet::Binary, naa)],
            tpgs: PortGroupSupport::Implicit,
            peripheral: Peripheral::DISK,
            revision: "1",
            access: BTreeMap::from([1, 2, 3, 4].map(|group| (group, AccessState::Optimized))),
            preferred: None,
            reported_access: BTreeMap::new(),
            long_header: LongHeader::Known,
            write_cache: true,
            force_unit_access: true,
            write_protected: false,
            limits: BlockLimitsPage::new(Peripheral::DISK),
            provisioning: LogicalProvisioningPage::new(Peripheral::DISK),
            rotation_rate: None,
            unknown: Vec::new(),
            reported_blocks: blocks as u64,
            blocks_at: BTreeMap::new(),
            log: Vec::new(),
            unflushed: 0,
        }
    }

    pub(crate) fn executed(&self, code: u8) -> usize {
        self.log.iter().filter(|(_, each)| *each == code).count()
    }

    /// Executes a command that came in at a port, and fills its buffer if it reads.
    pub(crate) fn execute<C>(&mut self, port: u16, command: &mut scsi::Command<C>) -> Reply {
        let code = command.cdb.operation_code();
        self.log.push((port, code));
        if self.unknown.contains(&code) {
            return refuse(0x20, 0x00);
        }
        let Ok(cdb) = Cdb::parse(command.cdb.as_slice()) else { return refuse(0x20, 0x00) };
        if let Some(reply) = self.refuse_by_access(port, &cdb) {
            return reply;
        }
        match cdb {
            Cdb::TestUnitReady => Reply::good(),
            Cdb::SetTargetPortGroups { .. } => {
                let list = SetPortGroups::parse(&command.buffer).expect("a list of groups");
                self.access.extend(list.groups);
                Reply::good()
            }
            Cdb::Read(access) => {
                let bytes = match self.range(access.lba, access.blocks.0) {
                    Some((from, to)) => self.medium[from..to].to_vec(),
                    None => return refuse(0x21, 0x00),
                };
                answer(command, &bytes)
            }
            Cdb::Write(access) => {
                let Some((from, to)) = self.range(access.lba, access.blocks.0) else {
                    return refuse(0x21, 0x00);
                };
                if self.write_protected {
                    return sense(SenseKey::DataProtect, 0x27, 0x00);
                }
                assert_eq!(command.data().len(), to - from, "the data is as long as the CDB says");
                self.medium[from..to].copy_from_slice(command.data());
                self.unflushed += usize::from(!access.force_unit_access);
                Reply::good()
            }
            Cdb::SynchronizeCache { .. } => {
                self.unflushed = 0;
                Reply::good()
            }
            Cdb::WriteSame(same) => {
                if same.unmap && !self.provisioning.write_same_16 {
                    return refuse(0x24, 0x00);
                }
                let Some((from, to)) = self.range(same.lba, same.blocks.0) else { return refuse(0x21, 0x00) };
                let block = command.data().to_vec();
                self.medium[from..to].chunks_mut(BLOCK).for_each(|each| each.copy_from_slice(&block));
                self.unflushed += 1;
                Reply::good()
            }
            Cdb::Unmap { .. } => {
                for extent in UnmapList::parse(command.data()).expect("a list").extents {
                    let Some((from, to)) = self.range(extent.lba, extent.blocks.0) else {
                        return refuse(0x21, 0x00);
                    };
                    self.medium[from..to].fill(0);
                }
                Reply::good()
            }
            other => match self.describe(port, &other) {
                Some(bytes) => answer(command, &bytes),
                None => refuse(0x24, 0x00),
            },
        }
    }

    fn range(&self, lba: Lba, blocks: u32) -> Option<(usize, usize)> {
        let from = usize::try_from(lba.0).ok()?.checked_mul(BLOCK)?;
        let to = from.checked_add(blocks as usize * BLOCK)?;
        (to <= self.medium.len()).then_some((from, to))
    }

    /// What a port that is not active does not do.
    fn refuse_by_access(&self, port: u16, cdb: &Cdb) -> Option<Reply> {
        let always = matches!(
            cdb,
            Cdb::Inquiry { .. } | Cdb::ReportTargetPortGroups { .. } | Cdb::SetTargetPortGroups { .. }
        );
        match self.access[&port] {
            _ if always => None,
            AccessState::Standby => Some(sense(SenseKey::NotReady, 0x04, 0x0b)),
            AccessState::Unavailable => Some(sense(SenseKey::NotReady, 0x04, 0x0c)),
            AccessState::Transitioning => Some(sense(SenseKey::NotReady, 0x04, 0x0a)),
            AccessState::Offline => Some(sense(SenseKey::NotReady, 0x04, 0x12)),
            _ => None,
        }
    }

    fn describe(&self, port: u16, cdb: &Cdb) -> Option<Vec<u8>> {
        let peripheral = Peripheral::DISK;
        Some(match *cdb {
            Cdb::Inquiry { page: None, .. } => self.inquiry().emit().to_vec(),
            Cdb::Inquiry { page: Some(vpd::SUPPORTED_PAGES), .. } => {
                let mut pages = vec![0x00, 0x80, 0x83, 0xb0, 0xb2];
                pages.extend(self.rotation_rate.map(|_| vpd::BLOCK_CHARACTERISTICS));
                SupportedPages { peripheral, pages }.emit()
            }
            Cdb::Inquiry { page: Some(vpd::SERIAL_NUMBER), .. } => {
                SerialPage { peripheral, serial: b"SN0001  ".to_vec() }.emit()
            }
            Cdb::Inquiry { page: Some(vpd::DEVICE_ID), .. } => {
                let mut designators = self.designators.clone();
                designators.push(Designator::target_port_group(port));
                designators.push(Designator::relative_target_port(port));
                DeviceIdPage { peripheral, designators }.emit()
            }
            Cdb::Inquiry { page: Some(vpd::BLOCK_LIMITS), .. } => self.limits.emit(),
            Cdb::Inquiry { page: Some(vpd::BLOCK_CHARACTERISTICS), .. } => BlockCharacteristicsPage {
                peripheral,
                rotation_rate: self.rotation_rate?,
                product_type: 0,
                form_factor: 0,
                force_unit_access_behaviour: false,
                verify_unmapped_supported: false,
            }
            .emit(),
            Cdb::Inquiry { page: Some(vpd::LOGICAL_PROVISIONING), .. } => self.provisioning.emit(),
            Cdb::ReadCapacity16 { .. } => self.capacity(port).emit().to_vec(),
            Cdb::ReadCapacity10 => {
                let last = Some(Lba(self.reported_blocks - 1));
                Capacity10 { last, block_size: BLOCK_LENGTH }.emit().to_vec()
            }
            Cdb::ModeSense { form, page: 0x08, .. } => {
                let page = CachingPage { write_cache: self.write_cache, ..CachingPage::default() };
                ModeParameters {
                    write_protected: self.write_protected,
                    dpo_fua: self.force_unit_access,
                    pages: vec![ModePage::from(page)],
                    ..ModeParameters::default()
                }
                .emit(form)
            }
            Cdb::ReportTargetPortGroups { format: PortGroupsFormat::Extended, .. }
                if self.long_header == LongHeader::Refused =>
            {
                return None;
            }
            Cdb::ReportTargetPortGroups { format: PortGroupsFormat::Extended, .. }
                if self.long_header == LongHeader::NotCounted =>
            {
                let mut bytes = self.port_groups(PortGroupsFormat::Extended).emit();
                let length = bytes.len() - 4;
                bytes.truncate(length);
                bytes[..4]
                    .copy_from_slice(&u32::try_from(length - 4).expect("a report is short").to_be_bytes());
                bytes
            }
            Cdb::ReportTargetPortGroups { format, .. } => self.port_groups(format).emit(),
            _ => return None,
        })
    }

    fn inquiry(&self) -> InquiryData {
        InquiryData {
            peripheral: self.peripheral,
            removable: false,
            version: 6,
            hierarchical: false,
            port_groups: self.tpgs,
            third_party_copy: false,
            protection: false,
            command_queuing: true,
            vendor: Ascii::new("ACME"),
            product: Ascii::new("Story disk"),
            revision: Ascii::new(self.revision),
        }
    }

    fn capacity(&self, port: u16) -> Capacity {
        let blocks = self.blocks_at.get(&port).unwrap_or(&self.reported_blocks);
        Capacity { unmapped_reads_zero: true, ..Capacity::new(Lba(blocks - 1), BLOCK_LENGTH) }
    }

    fn port_groups(&self, format: PortGroupsFormat) -> PortGroups {
        let group = |(&id, &state): (&u16, &AccessState)| {
            Some(PortGroup {
                id,
                state: self.reported_access.get(&id).copied().unwrap_or(Some(state))?,
                preferred: self.preferred == Some(id),
                supported: SupportedStates::default(),
                status: StateChange::None,
                ports: vec![id],
            })
        };
        let groups = self.access.iter().filter_map(group).collect();
        PortGroups { transition_secs: (format == PortGroupsFormat::Extended).then_some(20), groups }
    }
}

pub(crate) fn sense(key: SenseKey, asc: u8, ascq: u8) -> Reply {
    Reply::check_condition(Sense::new(key, AdditionalSense::new(asc, ascq)).into())
}

pub(crate) fn refuse(asc: u8, ascq: u8) -> Reply {
    sense(SenseKey::IllegalRequest, asc, ascq)
}

/// Data-In, cut to the room there is.
pub(crate) fn answer<C>(command: &mut scsi::Command<C>, bytes: &[u8]) -> Reply {
    let room = command.data_mut();
    let moved = bytes.len().min(room.len());
    room[..moved].copy_from_slice(&bytes[..moved]);
    let missing = u32::try_from(room.len() - moved).expect("a command is below 4 GiB");
    let residual = if missing == 0 { Residual::None } else { Residual::Underflow(missing) };
    Reply { residual, ..Reply::good() }
}
