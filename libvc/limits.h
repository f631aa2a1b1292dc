// SPDX-License-Identifier: GPL-2.0-or-later
// Every limit and default that more than one module shares, with its unit and its reason.
#ifndef LIBVC_LIMITS_H
#define LIBVC_LIMITS_H

#define VC_HOSTS_MAX 4096	   // hosts in one cluster; bounds every list from outside
#define VC_MEMBERS_MAX 8192	   // members in one cluster
#define VC_VMS_PER_HOST_MAX 64	   // --vcluster-vms; more than any sane split of a host
#define VC_NAME_MAX 64		   // image, member, network names; DNS labels are 63
#define VC_HOSTNAME_MAX 255	   // bytes of a Slurm node name, as DNS
#define VC_PATH_MAX 4096	   // PATH_MAX of Linux
#define VC_SPEC_MAX (64 * 1024)	   // bytes of the serialised spec; travels in one environment variable (MAX_ARG_STRLEN is 128 KiB)
#define VC_STAGE_FILES_MAX 256	   // --vcluster-stage-in/out entries
#define VC_MOUNTS_MAX 16	   // --vcluster-mount entries
#define VC_PACKAGES_MAX 512	   // packages of a recipe or --vcluster-packages
#define VC_PACKAGE_LEN_MAX 128	   // bytes of name=version; Debian's longest are near 80
#define VC_MEM_MIN_MIB 64	   // smallest guest that boots Debian's kernel with the agent
#define VC_RPC_BODY_MAX (16u << 20) // bytes of one control frame; largest is a view of VC_MEMBERS_MAX members, or a recipe's files
#define VC_FRAME_HEADER_LEN 12	   // bytes, see docs/protocol.md
#define VC_DEFAULT_PORT 6826	   // TCP between vcds; next to Slurm's 6817-6820
#define VC_ARG_MAX (2u << 20)	   // bytes of a task's arguments and environment together, as Linux's default ARG_MAX
#define VC_SCRIPT_MAX (4u << 20)   // bytes of a batch script, Slurm's max_script_size default

#define VC_RUN_DIR VC_LOCALSTATEDIR_RUN
#define VC_LOCALSTATEDIR_RUN "/run/vcd"		       // vcd.sock and the guests' sockets
#define VC_SOCKET_PATH VC_LOCALSTATEDIR_RUN "/vcd.sock" // local clients of vcd
#define VC_GUEST_DIR "/run/vcluster"		       // inside every guest: view, hostfiles, bin/

#endif
