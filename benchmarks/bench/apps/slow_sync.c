/* Preloaded into preforkd's processes: every fdatasync and fsync takes 5 ms longer, as on a slow or busy disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

#define DELAY_US 5000

typedef int (*sync_call)(int);

static int delayed(const char *name, int file)
{
	usleep(DELAY_US);
	return ((sync_call)dlsym(RTLD_NEXT, name))(file);
}

int fdatasync(int file) { return delayed("fdatasync", file); }

int fsync(int file) { return delayed("fsync", file); }
