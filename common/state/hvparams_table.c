/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/hvparams.h"

#include "kvm/base/transaction.h"

/* Named as the sets of values that they are; the ones that can't be had yet are refused by
 * hvparams_check, so that a typo and a gap are told apart. */
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
#define LATER .supported = false
#define NOW .supported = true

const struct hvparam hvparams_table[] = {
    {TEXT("kvm_path", "/usr/bin/qemu-system-x86_64"), .is_path = true, NODE, NOW,
     .help = "the QEMU binary"},
    {TEXT("kernel_path", ""), .is_path = true, GUEST, NOW,
     .help = "kernel of the node to boot instead of a disk; needs root_path"},
    {TEXT("initrd_path", ""), .is_path = true, GUEST, NOW,
     .help = "initial RAM disk for kernel_path"},
    {TEXT("root_path", "/dev/vda1"), GUEST, NOW, .help = "root= on the kernel's command line"},
    {TEXT("kernel_args", "ro"), GUEST, NOW, .help = "further words on the kernel's command line"},
    {TRUTH("acpi", true), GUEST, NOW,
     .help = "ACPI; without it a guest can't be asked to power off or to let a device go"},
    {TRUTH("serial_console", true), GUEST, NOW,
     .help = "serial port on a socket of the run directory"},
    {NUMBER("serial_speed", 38400, 75, 460800), GUEST, NOW,
     .help = "baud rate in the console= word of the kernel's command line"},
    {TEXT("vnc_bind_address", ""), NODE, NOW,
     .help = "IPv4 or IPv6 address, interface or directory that VNC listens on; empty: no VNC"},
    {TRUTH("vnc_tls", false), NODE, NOW, .help = "encrypt VNC, with certificates or anonymously"},
    {TEXT("vnc_x509_path", ""), .is_path = true, NODE, NOW,
     .help = "directory of the certificates for VNC with TLS"},
    {TRUTH("vnc_x509_verify", false), NODE, NOW,
     .help = "demand a certificate of VNC clients; needs vnc_x509_path and vnc_tls"},
    {TEXT("vnc_password_file", ""), .is_path = true, NODE, NOW,
     .help = "file whose first line is the VNC password"},
    {TEXT("spice_bind", ""), NODE, NOW,
     .help = "IPv4 or IPv6 address or interface that SPICE listens on; not with VNC"},
    {NUMBER("spice_ip_version", 0, 0, 6), NODE, NOW,
     .help = "address family of SPICE, 4 or 6; 0: that of the address"},
    {TEXT("spice_password_file", ""), .is_path = true, NODE, NOW,
     .help = "file whose first line is the SPICE password"},
    {TEXT("spice_image_compression", ""), .choices = image_values, .may_be_empty = true, NODE, NOW,
     .help = "SPICE image compression"},
    {TEXT("spice_jpeg_wan_compression", ""), .choices = wan_values, .may_be_empty = true, NODE, NOW,
     .help = "SPICE JPEG compression on slow links"},
    {TEXT("spice_zlib_glz_wan_compression", ""), .choices = wan_values, .may_be_empty = true, NODE,
     NOW, .help = "SPICE zlib compression on slow links"},
    {TEXT("spice_streaming_video", ""), .choices = video_values, .may_be_empty = true, NODE, NOW,
     .help = "SPICE video stream detection"},
    {TRUTH("spice_playback_compression", true), NODE, NOW, .help = "SPICE audio compression"},
    {TRUTH("spice_use_tls", false), NODE, NOW, .help = "TLS for SPICE"},
    {TEXT("spice_tls_ciphers", "HIGH:-DES:-3DES:-EXPORT:-ADH"), NODE, NOW,
     .help = "ciphers of SPICE with TLS"},
    {TRUTH("spice_use_vdagent", true), GUEST, NOW,
     .help = "channel of the SPICE agent in the guest"},
    {TEXT("floppy_image_path", ""), .is_path = true, GUEST, NOW, .help = "floppy image"},
    {TEXT("cdrom_image_path", ""), .is_path = true, GUEST, NOW, .help = "CD-ROM image"},
    {TEXT("cdrom2_image_path", ""), .is_path = true, GUEST, NOW,
     .help = "image of a second CD-ROM"},
    {TEXT("cdrom_disk_type", ""), .choices = cdrom_type_values, .may_be_empty = true, GUEST, NOW,
     .help = "how CD-ROMs are attached; empty: ide"},
    {TEXT("boot_order", "disk"), .choices = boot_values, GUEST, NOW,
     .help = "what the firmware boots from; not with kernel_path"},
    {TEXT("nic_type", "paravirtual"), .choices = nic_type_values, GUEST, NOW,
     .help = "model of the NICs; paravirtual: virtio-net-pci"},
    {TEXT("disk_type", "paravirtual"), .choices = disk_type_values, GUEST, NOW,
     .help = "model of the disks; paravirtual: virtio-blk-pci, scsi: scsi-hd"},
    {TEXT("scsi_controller_type", ""), .choices = controller_values, .may_be_empty = true, GUEST,
     NOW, .help = "SCSI controller for SCSI disks; empty: virtio-scsi-pci"},
    {NUMBER("kvm_pci_reservations", 0, 0, 31), GUEST, NOW,
     .help = "first PCI slot for disks and NICs; 0: the first free one"},
    {NUMBER("hotplug_ports", 16, 1, 29), GUEST, NOW,
     .help = "root ports for disks and NICs, on machine type q35 only"},
    {TEXT("disk_cache", "default"), .choices = cache_values, GUEST, NOW,
     .help = "host cache of the disks; default: writeback"},
    {TEXT("disk_aio", "threads"), .choices = aio_values, GUEST, NOW,
     .help = "how QEMU reads and writes images; native needs disk_cache none"},
    {TEXT("disk_discard", "ignore"), .choices = discard_values, GUEST, NOW,
     .help = "pass the guest's discards on to the image; default means ignore"},
    {TEXT("usb_mouse", ""), .choices = mouse_values, .may_be_empty = true, GUEST, NOW,
     .help = "USB pointing device; empty: a tablet with VNC, else none"},
    {TEXT("usb_devices", ""), GUEST, NOW, .help = "further USB devices, separated by commas"},
    {TEXT("keymap", ""), NODE, NOW, .help = "keyboard layout of VNC; empty: en-us"},
    {TEXT("vga", ""), .choices = vga_values, .may_be_empty = true, GUEST, NOW,
     .help = "graphics card; empty: std, with SPICE qxl"},
    {TEXT("soundhw", ""), GUEST, NOW, .help = "sound cards, separated by commas"},
    {TRUTH("use_localtime", false), GUEST, NOW, .help = "the guest's clock starts with local time"},
    {TEXT("cpu_type", ""), GUEST, NOW, .help = "CPU model and features; empty: QEMU's default"},
    {NUMBER("cpu_cores", 0, 0, CPUS), GUEST, NOW, .help = "cores of a socket; 0: not given"},
    {NUMBER("cpu_threads", 0, 0, CPUS), GUEST, NOW, .help = "threads of a core; 0: not given"},
    {NUMBER("cpu_sockets", 0, 0, CPUS), GUEST, NOW, .help = "sockets; 0: not given"},
    {TEXT("cpu_mask", "all"), GUEST, NOW,
     .help = "CPUs of the node to run on: 0-2,5 for all, 0:2-3:all for each vCPU"},
    {TEXT("mem_path", ""), .is_path = true, NODE, NOW,
     .help = "directory of a hugetlbfs for the guest's memory"},
    {TEXT("machine_version", ""), GUEST, NOW, .help = "machine type; empty: QEMU's default"},
    {TEXT("kvm_flag", "auto"), .choices = kvm_flag_values, .may_be_empty = true, GUEST, NOW,
     .help = "KVM acceleration: auto uses it where it works; empty: auto"},
    {TEXT("kvm_extra", ""), GUEST, NOW, .help = "further words for QEMU's command line"},
    {TRUTH("use_chroot", false), NODE, NOW, .help = "run QEMU in an empty directory"},
    {TEXT("security_model", "none"), .choices = security_values, NODE, NOW,
     .help = "the user that QEMU runs as: none root, user security_domain, pool one of the node's "
             "uid_pool"},
    {TEXT("security_domain", ""), NODE, NOW, .help = "user name for security_model user"},
    {TRUTH("vhost_net", false), GUEST, NOW,
     .help = "network data path in the node's kernel, for paravirtual NICs"},
    {NUMBER("virtio_net_queues", 1, 1, 32), GUEST, NOW, .help = "queues of a paravirtual NIC"},
    {TRUTH("vnet_hdr", true), GUEST, NOW,
     .help = "offloads between guest and tap, for paravirtual NICs"},
    {TRUTH("use_guest_agent", false), GUEST, NOW, .help = "the QEMU guest agent's channel"},
    {TRUTH("user_shutdown", false), NODE, NOW,
     .help = "a third monitor for a watcher that tells who powered a guest off"},
    {TEXT("reboot_behavior", "reboot"), .choices = reboot_values, GUEST, NOW,
     .help = "what a reboot by the guest does: reboot, or exit"},
    {NUMBER("migration_port", 8102, 1, 65534), NODE, NOW,
     .help = "TCP port of an incoming migration"},
    {NUMBER("migration_bandwidth", 32, 0, INT32_MAX), NODE, NOW,
     .help = "bandwidth of a migration in MiB/s"},
    {NUMBER("migration_downtime", 30, 0, 2000000), NODE, NOW,
     .help = "longest pause of a live migration in ms"},
    {TEXT("migration_mode", "live"), .choices = migration_values, NODE, NOW,
     .help = "live, or non-live: the guest is paused first"},
    {TEXT("migration_caps", ""), NODE, NOW,
     .help = "QEMU migration capabilities, separated by colons"},
    {NUMBER("iothreads", 0, 0, 64), GUEST, NOW,
     .help = "threads that serve the paravirtual disks, in turn; 0: QEMU's main thread does"},
    {TEXT("watchdog", ""), .choices = watchdog_values, .may_be_empty = true, GUEST, NOW,
     .help = "watchdog device that acts when the guest stops feeding it"},
    {TEXT("watchdog_action", "reset"), .choices = watchdog_action_values, GUEST, NOW,
     .help = "what the watchdog does"},
    {TRUTH("virtio_rng", false), GUEST, NOW,
     .help = "random number generator, fed from the node's /dev/urandom"},
    {NUMBER("virtio_rng_rate", 0, 0, INT32_MAX), GUEST, NOW,
     .help = "most bytes that virtio_rng gives in a second; 0: no limit"},
};

const size_t hvparams_count = COUNT(hvparams_table);
