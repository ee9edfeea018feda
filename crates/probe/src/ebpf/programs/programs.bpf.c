/* Everything that the tracker runs inside the kernel, as one object: the programs share a ring buffer
 * and the sockets' storage. Each is loaded and attached alone; those that a kernel does not know are
 * left out. */
#include "sockets.h"
#include "processes.h"

char programs_license[] SECTION("license") = "Dual MIT/GPL";
