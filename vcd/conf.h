// SPDX-License-Identifier: GPL-2.0-or-later
// vcd.conf: one table of options in conf.c (name, type, default, range), one plain struct here. vcd.conf(5) has the text.
//
// conf_load() parses into a new struct, and fails with file:line on the first thing it does not know or like. A reload
// replaces vcd->conf as a whole: read vcd->conf anew each time on the loop thread, and copy what a worker needs.
// Strings that may be NULL say so. Keys marked (start) keep their first value until vcd restarts.
#ifndef VCD_CONF_H
#define VCD_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "libvc/log.h"

#define CONF_DEFAULT_PATH VC_SYSCONFDIR "/vcluster/vcd.conf"

enum conf_hypervisor { CONF_HV_AUTO, CONF_HV_KVM, CONF_HV_TCG };
enum conf_fencing { CONF_FENCE_MARK, CONF_FENCE_SUSPEND, CONF_FENCE_DESTROY };
enum conf_link { CONF_LINK_AUTO, CONF_LINK_SERIAL };

struct conf_host { // hosts = {"n1=10.0.0.1", "n2=127.0.0.1:7002"}
	char *name;
	char *addr;
	int port; // of the other vcd
};

struct conf {
	char *file; // where it came from

	// who and where
	char **controllers; // controller (start): names of the hosts that may be the controller, the active one first
	char *host_name;    // host-name (start): this host's Slurm NodeName; gethostname up to the first dot
	char *cluster_name; // cluster-name: Slurm's ClusterName; "" accepts any
	char *listen;	    // listen (start): address for other vcds; "" is all
	int port;	    // port (start)
	struct conf_host *hosts; // hosts: addresses that are not in DNS or /etc/hosts
	size_t n_hosts;
	char *underlay; // underlay: local address or interface that carries VXLAN; "": the one that reaches the other hosts

	// directories (start) and files
	char *run_dir;	    // run-dir: sockets, job marks
	char *state_dir;    // state-dir: database, overlays, initramfs
	char *image_dir;    // image-dir: images
	char *munge_socket; // munge-socket (start): "" is munge's default
	char *kernel;	    // kernel: "" is the newest /boot/vmlinuz-*-cloud-*, else the newest
	char *guestd;	    // guestd: the static vcguestd that goes into the initramfs

	// people
	char *slurm_user;
	uid_t slurm_uid;      // of slurm-user
	uid_t *admin_uids;    // admin-users
	size_t n_admin_uids;
	gid_t *admin_gids; // admin-groups
	size_t n_admin_gids;

	// machines
	char *libvirt_uri;
	enum conf_hypervisor hypervisor;
	enum conf_link guest_link; // (start) guest-link: auto is vsock where this host offers it
	char *view_hook;	   // view-hook: an executable for each new view; "" is none
	bool drain_evacuates;	   // drain-evacuates: members leave a host that is drained in Slurm
	bool report_dead;	   // report-dead-hosts: to Slurm, as DOWN
	enum conf_fencing fencing; // fencing: of machines whose host may not call their view valid
	char *qemu_user;	   // qemu-user: who owns overlays and sockets that QEMU opens; "" is root
	uint64_t overhead_mib;	   // overhead-mem: the hypervisor's own memory per member
	uint32_t overhead_percent; // overhead-percent: and in proportion to the guest's memory
	uint64_t boot_timeout_ms, ensure_timeout_ms, release_timeout_ms;
	uint64_t libvirt_timeout_ms;
	unsigned hv_threads, work_threads; // (start)
	uint64_t task_grace_ms;		   // between SIGTERM and SIGKILL, and for a vcexec that went away
	char **mount_allow;		   // mount-allow: host directories that --vcluster-mount may name, with what is below
	char **trusted_images;		   // trusted-images: "uid/name" or "name" of images that may mount
	char **env_filter;		   // env-filter: variables (glob patterns) not passed into guests

	// network of the clusters
	char network[16]; // network: of every cluster, "10.42.0.0/16"
	uint32_t network_prefix;
	uint32_t vni_min, vni_max; // vni-range "4096-65535"
	uint32_t mtu;		   // mtu: of the guests; 0: the underlay's less VXLAN's 50 bytes
	uint32_t vxlan_port;

	// images
	char *mirror;			 // mirror: of Debian, for builds
	char *mirror_proxy;		 // mirror-proxy: "" is none
	char **build_hosts;		 // image-build-hosts: who builds, the first that can; none named: any host but the controller
	uint64_t build_timeout_ms;	 // image-build-timeout
	uint64_t build_mem_mib;		 // image-build-mem
	uint64_t image_max_mib;		 // image-max-size
	uint64_t image_cache_mib;	 // image-cache-size: of build stages and images without a name
	uint32_t build_jobs;		 // image-build-jobs: at once
	uint32_t build_jobs_per_user;	 // image-build-jobs-per-user: of them, of one user other than root
	uint64_t image_host_user_mib;	 // image-host-space-per-user: copies on each host that one user's clusters use
	char **elastic_params;		 // elastic-params: NAME=VALUE of the policies' numbers (vcd/elastic/params.c)
	char **topology;		 // topology: lists of hosts that are near each other, in the order of an image's way
	uint64_t image_min_kib;		 // image-min-rate: KiB a second of a host that others stand behind
	uint64_t image_user_mib;	 // image-space-per-user: data of all images of one user other than root

	// limits of the daemon
	unsigned peer_queue;	       // requests waiting for one host
	unsigned max_clients;	       // connections on the unix socket
	unsigned max_clients_per_user; // of them by one user other than root
	enum vc_log_level log_level;
	enum vc_log_sink log_sink; // (start) log-sink: auto (journal under systemd, else stderr), stderr, syslog, journal
};

struct conf *conf_load(const char *path, struct vc_error *err);
struct conf *conf_default(struct vc_error *err); // every key's default, no file
void conf_destroy(struct conf *conf);
// Both are usable; says which (start) keys differ and so wait for a restart: "" or "port, run-dir".
void conf_needs_restart(const struct conf *old, const struct conf *new, char *buf, size_t len);

const char *conf_key(size_t i); // the i-th key of the table; NULL past the last
bool conf_is_controller(const struct conf *conf); // this host is the active controller: the first one listed
const struct conf_host *conf_find_host(const struct conf *conf, const char *name); // NULL: not listed
bool conf_is_admin(const struct conf *conf, uid_t uid); // root, admin-users; admin-groups through the user database
bool conf_image_trusted(const struct conf *conf, const char *name);
bool conf_mount_allowed(const struct conf *conf, const char *source); // an absolute, already resolved path
bool conf_env_filtered(const struct conf *conf, const char *variable); // name or NAME=value

#endif
