/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/hvparams.h"

#include "kvm/base/transaction.h"

static const char *const image_values[] = {"auto_glz", "auto_lz", "glz", "lz", "off", "quic", NULL};
static const char *const wan_values[] = {"always", "auto", "never", NULL};
static const char *const video_values[] = {"all", "filter", "off", NULL};
static const char *const boot_values[] = {"cdrom", "disk", "floppy", "network", NULL};
static const char *const nic_type_values[] = {"e1000",    "e1000e",   "i82551",   "i82557b",
                                              "i82559er", "ne2k_isa", "ne2k_pci", "paravirtual",
                                              "pcnet",    "rtl8139",  NULL};
static const char *const disk_type_values[] = {
    "paravirtual", "scsi",         "ide", "sata",   "scsi-hd", "scsi-block",
    "scsi-cd",     "scsi-generic", "mtd", "pflash", "sd",      NULL};
static const char *const cdrom_type_values[] = {
    "ide",        "ide-cd",       "sata", "scsi",   "scsi-cd", "paravirtual", "scsi-hd",
    "scsi-block", "scsi-generic", "mtd",  "pflash", "sd",      NULL};
static const char *const controller_values[] = {"virtio-scsi-pci", "lsi", "megasas", "dc390", NULL};
static const char *const cache_values[] = {"default", "none", "writeback", "writethrough", NULL};
static const char *const aio_values[] = {"threads", "native", "io_uring", NULL};
static const char *const discard_values[] = {"ignore", "unmap", "default", NULL};
static const char *const mouse_values[] = {"mouse", "tablet", NULL};
static const char *const vga_values[] = {"std", "cirrus", "vmware", "qxl", "virtio", "none", NULL};
static const char *const kvm_flag_values[] = {"auto", "enabled", "disabled", NULL};
static const char *const security_values[] = {"none", "pool", "user", NULL};
static const char *const tpm_values[] = {"crb", "tis", NULL};
static const char *const watchdog_values[] = {"i6300esb", "itco", NULL};
static const char *const watchdog_action_values[] = {"reset", "shutdown",   "poweroff", "pause",
                                                     "none",  "inject-nmi", NULL};
static const char *const reboot_values[] = {"reboot", "exit", NULL};
static const char *const migration_values[] = {"live", "non-live", NULL};

enum { CPUS = 4096 };

#define TEXT(id, value) .name = (id), .type = HVPARAM_TEXT, .text = (value)
#define TRUTH(id, value) .name = (id), .type = HVPARAM_TRUTH, .number = (value)
#define NUMBER(id, value, least, most)                                                             \
    .name = (id), .type = HVPARAM_NUMBER, .number = (value), .low = (least), .high = (most)
#define GUEST .scope = HVPARAM_GUEST
#define NODE .scope = HVPARAM_NODE

const struct hvparam hvparams_table[] = {
    {TEXT("kvm_path", "/usr/bin/qemu-system-x86_64"), .is_path = true, NODE,
     .help = "the QEMU binary"},
    {TEXT("kernel_path", ""), .is_path = true, GUEST,
     .help = "kernel of the node to boot instead of a disk; needs root_path"},
    {TEXT("initrd_path", ""), .is_path = true, GUEST, .help = "initial RAM disk for kernel_path"},
    {TEXT("root_path", "/dev/vda1"), GUEST, .help = "root= on the kernel's command line"},
    {TEXT("kernel_args", "ro"), GUEST, .help = "further words on the kernel's command line"},
    {TRUTH("acpi", true), GUEST,
     .help = "ACPI; without it a guest can't be asked to power off or to let a device go"},
    {TRUTH("serial_console", true), GUEST, .help = "serial port on a socket of the run directory"},
    {NUMBER("serial_speed", 38400, 75, 460800), GUEST,
     .help = "baud rate in the console= word of the kernel's command line"},
    {TEXT("vnc_bind_address", ""), NODE,
     .help = "IPv4 or IPv6 address, interface or directory that VNC listens on; empty: no VNC"},
    {TRUTH("vnc_tls", false), NODE, .help = "encrypt VNC, with certificates or anonymously"},
    {TEXT("vnc_x509_path", ""), .is_path = true, NODE,
     .help = "directory of the certificates for VNC with TLS"},
    {TRUTH("vnc_x509_verify", false), NODE,
     .help = "demand a certificate of VNC clients; needs vnc_x509_path and vnc_tls"},
    {TEXT("vnc_password_file", ""), .is_path = true, NODE,
     .help = "file whose first line is the VNC password"},
    {TEXT("spice_bind", ""), NODE,
     .help = "IPv4 or IPv6 address or interface that SPICE listens on; not with VNC"},
    {NUMBER("spice_ip_version", 0, 0, 6), NODE,
     .help = "address family of SPICE, 4 or 6; 0: that of the address"},
    {TEXT("spice_password_file", ""), .is_path = true, NODE,
     .help = "file whose first line is the SPICE password"},
    {TEXT("spice_image_compression", ""), .choices = image_values, .may_be_empty = true, NODE,
     .help = "SPICE image compression"},
    {TEXT("spice_jpeg_wan_compression", ""), .choices = wan_values, .may_be_empty = true, NODE,
     .help = "SPICE JPEG compression on slow links"},
    {TEXT("spice_zlib_glz_wan_compression", ""), .choices = wan_values, .may_be_empty = true, NODE,
     .help = "SPICE zlib compression on slow links"},
    {TEXT("spice_streaming_video", ""), .choices = video_values, .may_be_empty = true, NODE,
     .help = "SPICE video stream detection"},
    {TRUTH("spice_playback_compression", true), NODE, .help = "SPICE audio compression"},
    {TRUTH("spice_use_tls", false), NODE, .help = "TLS for SPICE"},
    {TEXT("spice_tls_ciphers", "HIGH:-DES:-3DES:-EXPORT:-ADH"), NODE,
     .help = "ciphers of SPICE with TLS"},
    {TRUTH("spice_use_vdagent", true), GUEST, .help = "channel of the SPICE agent in the guest"},
    {TEXT("floppy_image_path", ""), .is_path = true, GUEST, .help = "floppy image"},
    {TEXT("cdrom_image_path", ""), .is_path = true, GUEST, .help = "CD-ROM image"},
    {TEXT("cdrom2_image_path", ""), .is_path = true, GUEST, .help = "image of a second CD-ROM"},
    {TEXT("cdrom_disk_type", ""), .choices = cdrom_type_values, .may_be_empty = true, GUEST,
     .help = "how CD-ROMs are attached; empty: ide"},
    {TEXT("boot_order", "disk"), .choices = boot_values, GUEST,
     .help = "what the firmware boots from; not with kernel_path"},
    {TEXT("nic_type", "paravirtual"), .choices = nic_type_values, GUEST,
     .help = "model of the NICs; paravirtual: virtio-net-pci"},
    {TEXT("disk_type", "paravirtual"), .choices = disk_type_values, GUEST,
     .help = "model of the disks; paravirtual: virtio-blk-pci, scsi: scsi-hd"},
    {TEXT("scsi_controller_type", ""), .choices = controller_values, .may_be_empty = true, GUEST,
     .help = "SCSI controller for SCSI disks; empty: virtio-scsi-pci"},
    {NUMBER("kvm_pci_reservations", 0, 0, 31), GUEST,
     .help = "first PCI slot for disks and NICs; 0: the first free one"},
    {NUMBER("hotplug_ports", 16, 1, 29), GUEST,
     .help = "root ports for disks and NICs, on machine type q35 only"},
    {TEXT("disk_cache", "default"), .choices = cache_values, GUEST,
     .help = "host cache of the disks; default: writeback"},
    {TEXT("disk_aio", "threads"), .choices = aio_values, GUEST,
     .help = "how QEMU reads and writes images; native needs disk_cache none"},
    {TEXT("disk_discard", "ignore"), .choices = discard_values, GUEST,
     .help = "pass the guest's discards on to the image; default means ignore"},
    {TEXT("usb_mouse", ""), .choices = mouse_values, .may_be_empty = true, GUEST,
     .help = "USB pointing device; empty: a tablet with VNC, else none"},
    {TEXT("usb_devices", ""), GUEST, .help = "further USB devices, separated by commas"},
    {TEXT("keymap", ""), NODE, .help = "keyboard layout of VNC; empty: en-us"},
    {TEXT("vga", ""), .choices = vga_values, .may_be_empty = true, GUEST,
     .help = "graphics card; empty: std, with SPICE qxl"},
    {TEXT("soundhw", ""), GUEST, .help = "sound cards, separated by commas"},
    {TRUTH("use_localtime", false), GUEST, .help = "the guest's clock starts with local time"},
    {TEXT("cpu_type", ""), GUEST, .help = "CPU model and features; empty: QEMU's default"},
    {NUMBER("cpu_cores", 0, 0, CPUS), GUEST, .help = "cores of a socket; 0: not given"},
    {NUMBER("cpu_threads", 0, 0, CPUS), GUEST, .help = "threads of a core; 0: not given"},
    {NUMBER("cpu_sockets", 0, 0, CPUS), GUEST, .help = "sockets; 0: not given"},
    {TEXT("cpu_mask", "all"), GUEST,
     .help = "CPUs of the node to run on: 0-2,5 for all, 0:2-3:all for each vCPU"},
    {TEXT("mem_path", ""), .is_path = true, NODE,
     .help = "directory of a hugetlbfs for the guest's memory"},
    {TEXT("machine_version", ""), GUEST, .help = "machine type; empty: QEMU's default"},
    {TEXT("kvm_flag", "auto"), .choices = kvm_flag_values, .may_be_empty = true, GUEST,
     .help = "KVM acceleration: auto uses it where it works; empty: auto"},
    {TEXT("kvm_extra", ""), GUEST, .help = "further words for QEMU's command line"},
    {TRUTH("use_chroot", false), NODE, .help = "run QEMU in an empty directory"},
    {TEXT("security_model", "none"), .choices = security_values, NODE,
     .help = "the user that QEMU runs as: none root, user security_domain, pool one of the node's "
             "uid_pool"},
    {TEXT("security_domain", ""), NODE, .help = "user name for security_model user"},
    {TRUTH("vhost_net", false), GUEST,
     .help = "network data path in the node's kernel, for paravirtual NICs"},
    {NUMBER("virtio_net_queues", 1, 1, 32), GUEST, .help = "queues of a paravirtual NIC"},
    {TRUTH("vnet_hdr", true), GUEST,
     .help = "offloads between guest and tap, for paravirtual NICs"},
    {TRUTH("use_guest_agent", false), GUEST, .help = "the QEMU guest agent's channel"},
    {TRUTH("user_shutdown", false), NODE,
     .help = "a third monitor for a watcher that tells who powered a guest off"},
    {TEXT("reboot_behavior", "reboot"), .choices = reboot_values, GUEST,
     .help = "what a reboot by the guest does: reboot, or exit"},
    {NUMBER("migration_port", 8102, 1, 65534), NODE, .help = "TCP port of an incoming migration"},
    {NUMBER("migration_bandwidth", 32, 0, INT32_MAX), NODE,
     .help = "bandwidth of a migration in MiB/s"},
    {NUMBER("migration_downtime", 30, 0, 2000000), NODE,
     .help = "longest pause of a live migration in ms"},
    {TEXT("migration_mode", "live"), .choices = migration_values, NODE,
     .help = "live, or non-live: the guest is paused first"},
    {TEXT("migration_caps", ""), NODE, .help = "QEMU migration capabilities, separated by colons"},
    {TEXT("firmware", "bios"), GUEST,
     .help = "bios, uefi, uefi-secure, or the path of a UEFI firmware's code"},
    {TEXT("nvram_path", ""), .is_path = true, GUEST,
     .help = "file of the UEFI variables of this instance; empty: nvram/NAME.fd of the state "
             "directory"},
    {TEXT("nvram_template", ""), .is_path = true, GUEST,
     .help = "what the file of UEFI variables begins as; empty: what comes with the firmware"},
    {TEXT("tpm", ""), .choices = tpm_values, .may_be_empty = true, GUEST,
     .help = "TPM 2.0, emulated by swtpm: its interface to the guest; empty: none"},
    {TEXT("swtpm_path", "/usr/bin/swtpm"), .is_path = true, NODE, .help = "the swtpm binary"},
    {NUMBER("iothreads", 0, 0, 64), GUEST,
     .help = "threads that serve the paravirtual disks, in turn; 0: QEMU's main thread does"},
    {TEXT("watchdog", ""), .choices = watchdog_values, .may_be_empty = true, GUEST,
     .help = "watchdog device that acts when the guest stops feeding it"},
    {TEXT("watchdog_action", "reset"), .choices = watchdog_action_values, GUEST,
     .help = "what the watchdog does"},
    {TRUTH("virtio_rng", false), GUEST,
     .help = "random number generator, fed from the node's /dev/urandom"},
    {NUMBER("virtio_rng_rate", 0, 0, INT32_MAX), GUEST,
     .help = "most bytes that virtio_rng gives in a second; 0: no limit"},
};

const size_t hvparams_count = COUNT(hvparams_table);
