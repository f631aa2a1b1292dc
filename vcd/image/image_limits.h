// SPDX-License-Identifier: GPL-2.0-or-later
// Every limit and default of recipes, builds and the store, with its unit and its reason.
#ifndef VCD_IMAGE_LIMITS_H
#define VCD_IMAGE_LIMITS_H

#include "libvc/limits.h"

#define IMAGE_NAME_MAX 64			// bytes; as VC_NAME_MAX, a file name in the store
#define IMAGE_FROM_MAX 97			// bytes of OWNER/NAME, 32 of a user's name
#define IMAGE_SUITE_MAX 32			// bytes of a Debian release's name
#define IMAGE_PACKAGE_MAX VC_PACKAGE_LEN_MAX	// bytes of name=version
#define IMAGE_FILES_MAX 256			// files of one recipe
#define IMAGE_FILE_BYTES_MAX (4u << 20)		// bytes of one file; bigger ones belong into a package or the base
#define IMAGE_FILES_BYTES_MAX (8u << 20)	// bytes of all files; as base64 still below VC_RPC_BODY_MAX
#define IMAGE_COMMANDS_MAX 128			// commands of one recipe
#define IMAGE_COMMAND_MAX 8192			// bytes of one command
#define IMAGE_PATH_MAX 1024			// bytes of a path in the image; PATH_MAX less room for the build's own
#define IMAGE_OWNER_MAX 65			// bytes of "user:group", 32 each as useradd allows
#define IMAGE_RECIPE_TEXT_MAX (1u << 20)	// bytes of a recipe file
#define IMAGE_RECIPE_JSON_MAX (15u << 20)	// bytes of a recipe as JSON; fits one control frame
#define IMAGE_IMPORT_MAX (16ull << 30)		// bytes of an imported tar
#define IMAGE_SIZE_MIN (16ull << 20)		// bytes; smallest root file system worth a boot
#define IMAGE_SIZE_MAX (256ull << 30)		// bytes; bounds the chunk list at 128 MiB
#define IMAGE_SIZE_DEFAULT_MAX (8ull << 30)	// bytes of content when the recipe names no size
#define IMAGE_CHUNK (64u << 10)			// bytes; see docs/images.md for why
#define IMAGE_META_MAX (4u << 20)		// bytes of image.json and build.json; the lock of 10,000 packages fits
#define IMAGE_CLUSTER_ID_MAX 64			// bytes of a pin's cluster id
#define IMAGE_KEEP_SECONDS "1"			// a stage that took less costs less to repeat than to copy and keep
#define IMAGE_BUILDER_VERSION 3			// part of every key: raise it when the same recipe gives another tree

#define IMAGE_BUILD_SECONDS 1800		// time limit of a build; a Debian base takes 15 s, hpcc's 40 s
#define IMAGE_BUILD_SECONDS_MAX 86400
#define IMAGE_BUILD_PROCS 512			// processes in the sandbox; dpkg with triggers needs under 50
#define IMAGE_BUILD_MEM_MIB 2048		// memory of the sandbox where a cgroup can limit it
#define IMAGE_BUILD_LOG_MAX (16u << 20)		// bytes of a build's log; the rest is cut and said so
#define IMAGE_BUILD_LINE_MAX 1024		// bytes of one progress text
#define IMAGE_UID_BASE 1878982656u		// 0x6fff0000: last 64 Ki of the range that systemd sets aside for containers
#define IMAGE_UID_COUNT 65536u			// ids of one sandbox, as one image has

#endif
