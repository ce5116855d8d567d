//! Which command is executed where.

use alloc::vec::Vec;

use block::Buffer;
use scsi::capacity::{Capacity, Capacity10};
use scsi::cdb::{Cdb, SelectReport};
use scsi::inquiry::Peripheral;
use scsi::luns::LunList;
use scsi::vpd::DEVICE_ID;
use scsi::{AdditionalSense, Lba, Lun, Sense, SenseData, SenseFormat, SenseKey};

use crate::array::Array;
use crate::medium::CompareAndWrite;
use crate::mode::{Change, Question};
use crate::operations;
use crate::port_groups;
use crate::refusal;
use crate::task_set::Task;
use crate::topology::{AccessChanges, PortId, Provisioning, UnitId};
use crate::unit::Unit;

impl Array {
    /// Executes a command at one go. What comes back is Data-In.
    pub(crate) fn execute(&mut self, id: UnitId, task: &mut Task) -> Result<Buffer, Sense> {
        let Some(unit) = self.units[id.index()].as_mut() else {
            return Err(refusal::unit_not_supported());
        };
        let pool = &mut self.pool;
        let data = &mut task.data;
        match &task.command {
            Cdb::Read(access) => return unit.read(access, data, pool),
            Cdb::Write(access) => unit.write(access, data)?,
            Cdb::WriteAndVerify { access, byte_check } => {
                unit.write_and_verify(access, *byte_check, data, pool)?;
            }
            Cdb::Verify { access, byte_check } => unit.verify(access, *byte_check, data, pool)?,
            Cdb::OrWrite(access) => unit.or_write(access, data, pool)?,
            Cdb::CompareAndWrite { lba, blocks, protect, force_unit_access, .. } => {
                let swap = CompareAndWrite {
                    lba: *lba,
                    blocks: *blocks,
                    protect: *protect,
                    force_unit_access: *force_unit_access,
                };
                unit.compare_and_write(swap, data, pool)?;
            }
            Cdb::Unmap { anchor, parameter_list_length, .. } => {
                unit.unmap(*anchor, parameters(data, (*parameter_list_length).into())?)?;
            }
            Cdb::WriteSame(same) => unit.write_same(same, data, pool)?,
            Cdb::PreFetch { lba, blocks, .. } => unit.pre_fetch(*lba, *blocks)?,
            Cdb::SynchronizeCache { lba, blocks, .. } => unit.synchronize_cache(*lba, *blocks)?,
            Cdb::GetLbaStatus { lba, allocation_length, report_type } => {
                if *report_type != 0 {
                    return Err(refusal::invalid_field(14, None));
                }
                return Ok(limited(unit.lba_status(*lba, *allocation_length as usize)?, &task.command));
            }
            Cdb::ModeSelect { .. } | Cdb::SetTargetPortGroups { .. } => self.change(id, task)?,
            _ => return self.inform(id, task),
        }
        Ok(Buffer::empty())
    }

    /// The commands that change how a unit behaves.
    fn change(&mut self, id: UnitId, task: &Task) -> Result<(), Sense> {
        match task.command {
            Cdb::ModeSelect { form, revert_to_defaults, save_pages, parameter_list_length, .. } => {
                if revert_to_defaults {
                    return Err(refusal::invalid_field(1, Some(1)));
                }
                let list = parameters(&task.data, parameter_list_length.into())?;
                let Some(unit) = self.unit_mut(id) else { return Err(refusal::unit_not_supported()) };
                if unit.mode_select(form, save_pages, list)? == Change::Made {
                    self.raise(id, AdditionalSense::MODE_PARAMETERS_CHANGED, Some(task.nexus));
                }
                Ok(())
            }
            Cdb::SetTargetPortGroups { parameter_list_length } => {
                let list = parameters(&task.data, parameter_list_length)?;
                self.set_port_groups(id, task, list)
            }
            _ => Err(refusal::unknown_operation()),
        }
    }

    /// The commands that ask what a unit is and how it does.
    fn inform(&mut self, id: UnitId, task: &Task) -> Result<Buffer, Sense> {
        let Some(unit) = self.unit(id) else { return Err(refusal::unit_not_supported()) };
        let group = self.topology.group_of(task.port);
        let access = self.options.access_changes;
        let bytes = match &task.command {
            // Nothing here can be stopped, removed or locked, so there is nothing to do (SBC: START STOP UNIT).
            Cdb::TestUnitReady | Cdb::StartStopUnit { .. } | Cdb::PreventAllowMediumRemoval { .. } => {
                Vec::new()
            }
            Cdb::Inquiry { page: None, .. } => self.naming.standard(Peripheral::DISK),
            Cdb::Inquiry { page: Some(page), .. } => {
                let bytes = self.naming.vital(*page, unit, task.port, group)?;
                if *page == DEVICE_ID
                    && let Some(nexus) = self.nexuses.get_mut(&task.nexus)
                {
                    nexus.attentions[id.index()].identified();
                }
                bytes
            }
            Cdb::ReadCapacity10 => capacity_10(unit),
            Cdb::ReadCapacity16 { .. } => capacity_16(unit),
            Cdb::ReportLuns { select, .. } => {
                let luns = self.report_luns(task.port, *select)?;
                self.luns_were_reported(task);
                luns
            }
            Cdb::RequestSense { descriptor, .. } => self.request_sense(id, task, *descriptor),
            Cdb::ModeSense {
                form,
                long_lba_accepted,
                disable_block_descriptors,
                control,
                page,
                subpage,
                ..
            } => unit.mode_sense(Question {
                form: *form,
                long_lba_accepted: *long_lba_accepted,
                disable_block_descriptors: *disable_block_descriptors,
                control: *control,
                page: *page,
                subpage: *subpage,
            })?,
            Cdb::ReportTargetPortGroups { format, .. } if access != AccessChanges::None => {
                port_groups::report(unit, self.topology, *format)?
            }
            Cdb::ReportSupportedOperationCodes { options, timeouts, .. } => {
                operations::report(unit, access, *options, *timeouts)?
            }
            Cdb::ReportSupportedTaskManagementFunctions { extended, .. } => {
                operations::report_task_management(*extended)
            }
            _ => return Err(refusal::unknown_operation()),
        };
        Ok(limited(bytes, &task.command))
    }

    /// What can be asked of a LUN that nothing is mapped at.
    pub(crate) fn execute_without_unit(
        &self,
        port: PortId,
        lun: Lun,
        command: &Cdb,
    ) -> Result<Buffer, Sense> {
        let nothing = refusal::unit_not_supported();
        let bytes = match command {
            Cdb::Inquiry { page: None, .. } => self.naming.standard(Peripheral::NONE),
            Cdb::ReportLuns { select, .. } if lun == Lun::default() || lun == Lun::REPORT_LUNS => {
                self.report_luns(port, *select)?
            }
            Cdb::RequestSense { descriptor, .. } => sense_bytes(&nothing, *descriptor),
            _ => return Err(nothing),
        };
        Ok(limited(bytes, command))
    }

    /// There are no well known logical units to report.
    fn report_luns(&self, port: PortId, select: SelectReport) -> Result<Vec<u8>, Sense> {
        let luns = match select {
            SelectReport::Addressable | SelectReport::All => {
                self.maps[port.index()].keys().copied().collect()
            }
            SelectReport::WellKnown => Vec::new(),
            SelectReport::Other(_) => return Err(refusal::invalid_field(2, None)),
        };
        Ok(LunList { luns }.emit())
    }

    /// Who has just read the list need not be told that it changed (SPC, 6.33).
    fn luns_were_reported(&mut self, task: &Task) {
        if let Some(nexus) = self.nexuses.get_mut(&task.nexus) {
            for attentions in &mut nexus.attentions {
                attentions.clear(AdditionalSense::REPORTED_LUNS_DATA_CHANGED);
            }
        }
    }

    /// A unit attention that is pending is told this way too, and cleared (SPC, 6.39).
    fn request_sense(&mut self, id: UnitId, task: &Task, descriptor: bool) -> Vec<u8> {
        let none = Sense::new(SenseKey::NoSense, AdditionalSense::NONE);
        let sense = self.pending_attention(task.nexus, id).unwrap_or(none);
        sense_bytes(&sense, descriptor)
    }
}

/// The parameter list, which must be there as long as the CDB says (SPC, 4.2.5.5).
fn parameters(data: &[u8], length: u32) -> Result<&[u8], Sense> {
    data.get(..length as usize).ok_or_else(refusal::parameter_list_length)
}

fn sense_bytes(sense: &Sense, descriptor: bool) -> Vec<u8> {
    let format = if descriptor { SenseFormat::Descriptor } else { SenseFormat::Fixed };
    SenseData::emit(sense, format).as_slice().to_vec()
}

/// What does not fit the allocation length is not sent (SPC, 4.2.5.6).
fn limited(mut bytes: Vec<u8>, command: &Cdb) -> Buffer {
    if let Some(room) = command.allocation_length() {
        bytes.truncate(room as usize);
    }
    Buffer::from(bytes)
}

fn last_block(unit: &Unit) -> Lba {
    Lba(unit.blocks().saturating_sub(1))
}

fn capacity_10(unit: &Unit) -> Vec<u8> {
    let last = last_block(unit);
    let last = u32::try_from(last.0).is_ok().then_some(last);
    Capacity10 { last, block_size: unit.block_size }.emit().to_vec()
}

fn capacity_16(unit: &Unit) -> Vec<u8> {
    let thin = unit.provisioning == Provisioning::Thin;
    let capacity = Capacity {
        physical_block_exponent: unit.physical_block_exponent,
        provisioning_management: thin,
        unmapped_reads_zero: thin,
        ..Capacity::new(last_block(unit), unit.block_size)
    };
    capacity.emit().to_vec()
}
