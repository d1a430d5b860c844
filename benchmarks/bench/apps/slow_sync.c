/*
 * Preloaded into preforkd's processes: every fdatasync and fsync takes 5 ms longer, as on a slow or busy disk.
 * One that the kernel is asked to do by itself (io_submit, through glibc's syscall()) begins 5 ms later.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DELAY_US 5000

typedef int (*sync_call)(int);
typedef long (*any_call)(long, ...);

struct submission {
	long context, count, requests;
};

static int delayed(const char *name, int file)
{
	usleep(DELAY_US);
	return ((sync_call)dlsym(RTLD_NEXT, name))(file);
}

int fdatasync(int file) { return delayed("fdatasync", file); }

int fsync(int file) { return delayed("fsync", file); }

static void *submit_later(void *argument)
{
	struct submission it = *(struct submission *)argument;

	free(argument);
	usleep(DELAY_US);
	((any_call)dlsym(RTLD_NEXT, "syscall"))(SYS_io_submit, it.context, it.count, it.requests);
	return NULL;
}

long syscall(long number, ...)
{
	va_list list;
	long a[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_io_submit) {
		struct submission *later = malloc(sizeof *later);
		pthread_t thread;

		*later = (struct submission){a[0], a[1], a[2]};
		if (pthread_create(&thread, NULL, submit_later, later) != 0)
			abort();
		pthread_detach(thread);
		return a[1];
	}
	return ((any_call)dlsym(RTLD_NEXT, "syscall"))(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
