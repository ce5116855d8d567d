//! INQUIRY: what the array says a unit is (SPC, 6.7 and 7.7; SBC, 6.6).

use alloc::string::String;
use alloc::vec::Vec;

use scsi::inquiry::{InquiryData, Peripheral, PortGroupSupport};
use scsi::vpd::{
    self, BlockCharacteristicsPage, BlockLimitsPage, CodeSet, Designator, DesignatorType, DeviceIdPage,
    ExtendedInquiryPage, LogicalProvisioningPage, ProvisioningType, SerialPage, SupportedPages,
};
use scsi::{Ascii, SENSE_LENGTH_MAX, Sense};

use crate::limits;
use crate::refusal;
use crate::topology::{AccessChanges, GroupId, Options, PortId, Provisioning};
use crate::unit::{ShownIdentity, Unit};

/// What all units of the array say the same.
#[derive(Debug)]
pub(crate) struct Naming {
    vendor: String,
    product: String,
    revision: String,
    access_changes: AccessChanges,
    multiple_ports: bool,
}

/// SPC-4.
const VERSION: u8 = 6;
/// Standard INQUIRY data with all eight version descriptors (SPC, 6.7.2).
const STANDARD_LENGTH: usize = 96;
const VERSION_DESCRIPTORS_AT: usize = 58;
/// SAM-5, iSCSI, SPC-4 and SBC-3, no version claimed of any (SPC, annex "Version descriptor values").
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0960, 0x0460, 0x04c0];
/// The byte that says how many follow, and how many precede those.
const ADDITIONAL_LENGTH_AT: usize = 4;
const ADDITIONAL_LENGTH_AFTER: usize = 5;
/// MULTIP: the array has more than one target port (SPC, 6.7.2).
const MULTIPLE_PORTS: u8 = 0x10;
const MULTIPLE_PORTS_AT: usize = 6;
/// VPD page B2h, LBPRZ: unmapped blocks read as zeros.
const READS_ZERO: u8 = 1;

const PAGES: [u8; 7] = [
    vpd::SUPPORTED_PAGES,
    vpd::SERIAL_NUMBER,
    vpd::DEVICE_ID,
    vpd::EXTENDED_INQUIRY,
    vpd::BLOCK_LIMITS,
    vpd::BLOCK_CHARACTERISTICS,
    vpd::LOGICAL_PROVISIONING,
];

impl Naming {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            vendor: options.vendor.clone(),
            product: options.product.clone(),
            revision: options.revision.clone(),
            access_changes: options.access_changes,
            multiple_ports: options.controllers.saturating_mul(options.ports_per_controller) > 1,
        }
    }

    /// Standard INQUIRY data.
    pub(crate) fn standard(&self, peripheral: Peripheral) -> Vec<u8> {
        let data = InquiryData {
            peripheral,
            removable: false,
            version: VERSION,
            hierarchical: true,
            port_groups: match self.access_changes {
                AccessChanges::None => PortGroupSupport::None,
                AccessChanges::Implicit => PortGroupSupport::Implicit,
                AccessChanges::ImplicitAndExplicit => PortGroupSupport::Both,
            },
            third_party_copy: false,
            protection: false,
            command_queuing: true,
            vendor: Ascii::new(&self.vendor),
            product: Ascii::new(&self.product),
            revision: Ascii::new(&self.revision),
        };
        let mut bytes = data.emit().to_vec();
        bytes.resize(STANDARD_LENGTH, 0);
        for (place, descriptor) in bytes[VERSION_DESCRIPTORS_AT..].chunks_mut(2).zip(VERSION_DESCRIPTORS) {
            place.copy_from_slice(&descriptor.to_be_bytes());
        }
        if self.multiple_ports {
            bytes[MULTIPLE_PORTS_AT] |= MULTIPLE_PORTS;
        }
        bytes[ADDITIONAL_LENGTH_AT] =
            u8::try_from(STANDARD_LENGTH - ADDITIONAL_LENGTH_AFTER).expect("STANDARD_LENGTH is below 256");
        bytes
    }

    /// A vital product data page of a unit, as seen through a port.
    pub(crate) fn vital(
        &self,
        page: u8,
        unit: &Unit,
        port: PortId,
        group: GroupId,
    ) -> Result<Vec<u8>, Sense> {
        let peripheral = Peripheral::DISK;
        Ok(match page {
            vpd::SUPPORTED_PAGES => SupportedPages { peripheral, pages: PAGES.to_vec() }.emit(),
            vpd::SERIAL_NUMBER => {
                SerialPage { peripheral, serial: unit.identity.serial.as_bytes().to_vec() }.emit()
            }
            vpd::DEVICE_ID => {
                DeviceIdPage { peripheral, designators: self.designators(unit, port, group) }.emit()
            }
            vpd::EXTENDED_INQUIRY => extended(peripheral).emit(),
            vpd::BLOCK_LIMITS => block_limits(peripheral, unit).emit(),
            vpd::BLOCK_CHARACTERISTICS => characteristics(peripheral, unit).emit(),
            vpd::LOGICAL_PROVISIONING => provisioning(peripheral, unit).emit(),
            _ => return Err(refusal::invalid_field(2, None)),
        })
    }

    fn designators(&self, unit: &Unit, port: PortId, group: GroupId) -> Vec<Designator> {
        let mut t10 = Ascii::<8>::new(&self.vendor).0.to_vec();
        t10.extend_from_slice(unit.identity.serial.as_bytes());
        let naa = match unit.shown {
            ShownIdentity::Own => Some(unit.identity.naa),
            ShownIdentity::Naa(naa) => Some(naa),
            ShownIdentity::Nothing => None,
        };
        let mut designators = Vec::new();
        if let Some(naa) = naa {
            designators.push(Designator::of_logical_unit(DesignatorType::Naa, CodeSet::Binary, naa));
            designators.push(Designator::of_logical_unit(DesignatorType::T10VendorId, CodeSet::Ascii, t10));
        }
        designators.push(Designator::relative_target_port(port.0));
        if self.access_changes != AccessChanges::None {
            designators.push(Designator::target_port_group(group.0));
        }
        designators
    }
}

fn extended(peripheral: Peripheral) -> ExtendedInquiryPage {
    ExtendedInquiryPage {
        peripheral,
        supported_protection: 0,
        guard_check: false,
        application_tag_check: false,
        reference_tag_check: false,
        unit_attention_specific: false,
        priority: false,
        head_of_queue: true,
        ordered: true,
        simple: true,
        write_uncorrectable: false,
        non_volatile_cache: false,
        volatile_cache: true,
        clears_nexus_attentions: false,
        sense_length_max: u8::try_from(SENSE_LENGTH_MAX).expect("sense data has at most 252 bytes"),
    }
}

fn block_limits(peripheral: Peripheral, unit: &Unit) -> BlockLimitsPage {
    let limits = BlockLimitsPage {
        write_same_non_zero: true,
        compare_and_write_max: limits::COMPARE_AND_WRITE_BLOCKS_MAX,
        transfer_granularity: 1 << unit.physical_block_exponent.min(15),
        transfer_max: limits::transfer_blocks_max(unit.block_size),
        transfer_optimal: limits::transfer_blocks_optimal(unit.block_size),
        write_same_max: limits::WRITE_SAME_BLOCKS_MAX.into(),
        ..BlockLimitsPage::new(peripheral)
    };
    match unit.provisioning {
        Provisioning::Full => limits,
        Provisioning::Thin => BlockLimitsPage {
            unmap_blocks_max: limits::UNMAP_BLOCKS_MAX,
            unmap_descriptors_max: limits::UNMAP_DESCRIPTORS_MAX,
            unmap_granularity: 1,
            unmap_alignment: Some(0),
            ..limits
        },
    }
}

fn characteristics(peripheral: Peripheral, unit: &Unit) -> BlockCharacteristicsPage {
    BlockCharacteristicsPage {
        peripheral,
        rotation_rate: unit.rotation_rate,
        product_type: 0,
        form_factor: 0,
        force_unit_access_behaviour: false,
        verify_unmapped_supported: true,
    }
}

fn provisioning(peripheral: Peripheral, unit: &Unit) -> LogicalProvisioningPage {
    let page = LogicalProvisioningPage::new(peripheral);
    match unit.provisioning {
        Provisioning::Full => page,
        Provisioning::Thin => LogicalProvisioningPage {
            unmap: true,
            write_same_16: true,
            write_same_10: true,
            reads: READS_ZERO,
            kind: ProvisioningType::Thin,
            ..page
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_says_whether_it_has_more_than_one_port() {
        for (controllers, ports_per_controller, multiple) in [(1, 1, 0x00), (1, 2, 0x10), (2, 1, 0x10)] {
            let naming = Naming::new(&Options { controllers, ports_per_controller, ..Options::default() });
            assert_eq!(naming.standard(Peripheral::DISK)[6], multiple, "MULTIP");
        }
    }
}
