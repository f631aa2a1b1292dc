// SPDX-License-Identifier: GPL-2.0-or-later
// Asks Slurm's mpi/pmi2 for two more processes, as MPI_Comm_spawn of an MPICH that has it would, in PMI-1 or PMI-2's own words
// (Debian's MPICH is built without). pmispawn 1|2: rank 0 has itself started twice, as `pmispawn V child`; each child reads a
// value that rank 0 put before, and prints "child R of N on HOST: VALUE".
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPLY_MAX 4096
#define VALUE "17"

static int fail(const char *what, const char *reply)
{
	printf("%s: %s\n", what, reply);
	exit(1);
}

static void put(int version, const char *text)
{
	int fd = atoi(getenv("PMI_FD")); // set by vcguestd or slurmstepd
	if (version == 1 ? dprintf(fd, "%s", text) < 0 : dprintf(fd, "%6zu%s", strlen(text), text) < 0)
		fail("write", "PMI_FD");
}

static void read_all(char *buf, size_t n)
{
	int fd = atoi(getenv("PMI_FD"));
	for (size_t got = 0; got < n;) {
		ssize_t k = read(fd, buf + got, n - got);
		if (k <= 0)
			fail("read", "PMI_FD");
		got += (size_t)k;
	}
	buf[n] = '\0';
}

// Says `text` in words of that version, and takes the answer, which must be `want`.
static void ask(int version, const char *text, const char *want, char reply[REPLY_MAX])
{
	size_t n = 0;
	put(version, text);
	if (version == 1) {
		do
			read_all(reply + n, 1);
		while (reply[n++] != '\n' && n < REPLY_MAX - 1);
	} else {
		read_all(reply, 6);
		n = strtoul(reply, NULL, 10);
		if (n >= REPLY_MAX)
			fail("length", reply);
		read_all(reply, n);
	}
	if (!strstr(reply, want) || !strstr(reply, "rc=0"))
		fail(text, reply);
}

static void init(int version, char reply[REPLY_MAX])
{
	char text[128];
	snprintf(text, sizeof(text), "cmd=init pmi_version=%d pmi_subversion=%d\n", version, version == 1);
	ask(1, text, "cmd=response_to_init", reply);
	if (version == 1)
		return;
	snprintf(text, sizeof(text), "cmd=fullinit;pmijobid=%s;pmirank=%s;threaded=FALSE;", getenv("PMI_JOBID"), getenv("PMI_RANK"));
	ask(2, text, "cmd=fullinit-response", reply);
}

static void spawn(int version, const char *self, char reply[REPLY_MAX])
{
	char text[1024];
	if (version == 1)
		snprintf(text, sizeof(text),
			 "mcmd=spawn\nnprocs=2\nexecname=%s\ntotspawns=1\nspawnssofar=1\nargcnt=2\narg1=1\narg2=child\n"
			 "preput_num=1\npreput_key_0=seventeen\npreput_val_0=" VALUE "\ninfo_num=0\nendcmd\n", self);
	else
		snprintf(text, sizeof(text),
			 "cmd=spawn;ncmds=1;preputcount=1;ppkey0=seventeen;ppval0=" VALUE ";subcmd=%s;maxprocs=2;argc=2;argv0=2;argv1=child;"
			 "infokeycount=0;", self);
	ask(version, text, version == 1 ? "cmd=spawn_result" : "cmd=spawn-response", reply);
}

static void child(int version, char reply[REPLY_MAX])
{
	char host[256] = "", text[256];
	char *value = NULL;
	if (version == 1) {
		ask(1, "cmd=get_my_kvsname\n", "cmd=my_kvsname", reply);
		char *name = strstr(reply, "kvsname=");
		name = name ? name + strlen("kvsname=") : reply;
		name[strcspn(name, " \n")] = '\0';
		snprintf(text, sizeof(text), "cmd=get kvsname=%.128s key=seventeen\n", name);
		ask(1, text, "cmd=get_result", reply);
	} else
		ask(2, "cmd=kvs-get;jobid=;srcid=-1;key=seventeen;", "cmd=kvs-get-response", reply);
	value = strstr(reply, "value=");
	value = value ? value + strlen("value=") : reply;
	value[strcspn(value, "; \n")] = '\0';
	gethostname(host, sizeof(host) - 1);
	printf("child %s of %s on %s: %s\n", getenv("PMI_RANK"), getenv("PMI_SIZE"), host, value);
}

int main(int argc, char **argv)
{
	char reply[REPLY_MAX];
	int version = argc > 1 && strcmp(argv[1], "2") == 0 ? 2 : 1;
	if (!getenv("PMI_FD") || !getenv("PMI_RANK") || !getenv("PMI_SIZE"))
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	init(version, reply);
	if (argc > 2)
		child(version, reply);
	else if (strcmp(getenv("PMI_RANK"), "0") == 0) {
		spawn(version, argv[0], reply);
		printf("spawned\n");
	}
	ask(version, version == 1 ? "cmd=finalize\n" : "cmd=finalize;", version == 1 ? "cmd=finalize_ack" : "cmd=finalize-response", reply);
	return 0;
}
