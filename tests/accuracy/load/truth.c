#include "truth.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

static int file = -1;

static uint64_t clock_now(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time) != 0)
        die("clock_gettime");
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

struct moment now(void)
{
    return (struct moment){.real = clock_now(CLOCK_REALTIME), .boot = clock_now(CLOCK_BOOTTIME)};
}

void truth_open(const char *path)
{
    file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0)
        die(path);
}

/* Field 22 of /proc/PID/stat (proc_pid_stat(5)): when this process started, in clock ticks since
 * the boot. Read by every process for itself; a fork makes another. */
static uint64_t own_start(void)
{
    static pid_t whose;
    static uint64_t start;
    if (whose == getpid())
        return start;
    char text[1024];
    int stat = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t length = stat < 0 ? -1 : read(stat, text, sizeof text - 1);
    if (length <= 0)
        die("/proc/self/stat");
    close(stat);
    text[length] = 0;
    /* The second field is the name, in parentheses, and may hold anything. */
    const char *rest = strrchr(text, ')');
    unsigned long long ticks;
    if (rest == NULL || sscanf(rest + 1,
                               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d"
                               " %*d %*d %*d %llu",
                               &ticks) != 1)
        die("field 22 of /proc/self/stat");
    whose = getpid();
    start = ticks;
    return start;
}

static unsigned long own_namespace(void)
{
    static unsigned long inode;
    struct stat facts;
    if (inode == 0) {
        if (stat("/proc/self/ns/net", &facts) != 0)
            die("/proc/self/ns/net");
        inode = facts.st_ino;
    }
    return inode;
}

static void write_end(const struct end *end, const char *owner, unsigned pid, uint64_t start)
{
    char local[INET6_ADDRSTRLEN], remote[INET6_ADDRSTRLEN], line[512];
    address_text(&end->local, local);
    address_text(&end->remote, remote);
    int length = snprintf(
        line, sizeof line, "%s %s %d %s %u %s %u %u %llu %lu %llu %llu %llu %llu %llu\n", owner,
        end->role == CLIENT ? "client" : "server", end->protocol, local,
        ntohs(address_port(&end->local)), remote, ntohs(address_port(&end->remote)), pid,
        (unsigned long long)start, own_namespace(), (unsigned long long)end->open.real,
        (unsigned long long)end->close.real, (unsigned long long)end->open.boot,
        (unsigned long long)end->close.boot, (unsigned long long)end->id);
    if (write(file, line, (size_t)length) != length)
        die("writing the truth");
}

void truth_process(const struct end *end)
{
    write_end(end, "process", (unsigned)getpid(), own_start());
}

void truth_kernel(const struct end *end)
{
    write_end(end, "kernel", 0, 0);
}
