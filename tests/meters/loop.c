/* The bound: a plain loop over a capture in memory. It reads headers of Ethernet, IPv4, TCP and UDP,
 * finds the flow in a table, and keeps packets, octets, flags, mean and variance of sizes. It checks
 * little, ends no flow, writes nothing: what a meter could cost at least. */
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct flow {
	uint32_t low, high;
	uint32_t ports;
	uint8_t protocol, used;
	uint64_t packets[2], octets[2], flags[8];
	double mean[2], m2[2];
	int64_t first, last;
};

#define SLOTS (1u << 19)

int main(int argc, char **argv)
{
	int file = argc > 1 ? open(argv[1], O_RDONLY) : -1;
	struct stat stat;
	if (file < 0 || fstat(file, &stat) < 0)
		return 1;
	const uint8_t *data = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	struct flow *table = calloc(SLOTS, sizeof *table);
	if (data == MAP_FAILED || !table)
		return 1;
	size_t at = 24, end = (size_t)stat.st_size;
	uint64_t packets = 0, flows = 0;
	while (at + 16 <= end) {
		uint32_t head[4];
		memcpy(head, data + at, 16);
		const uint8_t *frame = data + at + 16, *ip = frame + 14;
		at += 16 + head[2];
		if (at > end || head[2] < 42 || frame[12] != 8 || frame[13] != 0)
			continue;
		uint32_t source, destination, low, high;
		memcpy(&source, ip + 12, 4);
		memcpy(&destination, ip + 16, 4);
		const uint8_t *transport = ip + (ip[0] & 15) * 4;
		uint16_t from = 0, to = 0;
		if (((ip[6] & 31) | ip[7]) == 0) {
			memcpy(&from, transport, 2);
			memcpy(&to, transport + 2, 2);
		}
		int way = source > destination;
		low = way ? destination : source;
		high = way ? source : destination;
		uint32_t ports = way ? (uint32_t)to << 16 | from : (uint32_t)from << 16 | to;
		uint64_t hash = ((uint64_t)low << 32 | high) * 0x9e3779b97f4a7c15u ^ ports * 0x85ebca6bu ^ ip[9];
		uint32_t slot = (uint32_t)(hash >> 40 ^ hash) & (SLOTS - 1);
		struct flow *flow;
		for (;; slot = (slot + 1) & (SLOTS - 1)) {
			flow = &table[slot];
			if (!flow->used || (flow->low == low && flow->high == high && flow->ports == ports &&
					    flow->protocol == ip[9]))
				break;
		}
		int64_t time = (int64_t)head[0] * 1000000 + head[1];
		if (!flow->used) {
			flow->used = 1;
			flow->low = low, flow->high = high, flow->ports = ports, flow->protocol = ip[9];
			flow->first = time;
			flows++;
		}
		flow->last = time;
		uint16_t length = (uint16_t)(ip[2] << 8 | ip[3]);
		flow->packets[way]++;
		flow->octets[way] += length;
		double delta = length - flow->mean[way];
		flow->mean[way] += delta / (double)flow->packets[way];
		flow->m2[way] += delta * (length - flow->mean[way]);
		if (ip[9] == 6)
			for (int bit = 0; bit < 8; bit++)
				flow->flags[bit] += transport[13] >> bit & 1;
		packets++;
	}
	double sum = 0;
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		if (table[slot].used && table[slot].packets[0] > 1)
			sum += sqrt(table[slot].m2[0] / (double)(table[slot].packets[0] - 1));
	printf("%llu packets, %llu flows, %f\n", (unsigned long long)packets, (unsigned long long)flows, sum);
	return 0;
}
