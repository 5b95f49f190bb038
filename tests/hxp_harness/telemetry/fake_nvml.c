/* Stands in for NVIDIA's driver library: two GPUs whose figures are known. Energy grows by 1 J a call. FAKE_NVML=virtual: tells no power and no energy. */
#include <stdlib.h>
#include <string.h>

#define NOT_SUPPORTED 3
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilisation_t;
static unsigned long long energy_mj[2] = {5000, 7000};
static int devices[2];

static int is(const char *word) { const char *said = getenv("FAKE_NVML"); return said && !strcmp(said, word); }
static int number(void *handle) { return (int)((int *)handle - devices); }

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return is("broken") ? 999 : 0; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { (void)code; return "as this test asked"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = is("none") ? 0 : 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) { *handle = &devices[index]; return 0; }
int nvmlDeviceGetName(void *handle, char *name, unsigned int length) { (void)handle; strncpy(name, "Fake H200", length); return 0; }
int nvmlDeviceGetPowerUsage(void *handle, unsigned int *mw) {
    if (is("virtual")) return NOT_SUPPORTED;
    *mw = number(handle) ? 300500 : 200250;
    return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *mj) {
    if (is("virtual")) return NOT_SUPPORTED;
    *mj = energy_mj[number(handle)] += 1000;
    return 0;
}
int nvmlDeviceGetClockInfo(void *handle, unsigned int kind, unsigned int *mhz) {
    *mhz = kind != 1 ? 0 : number(handle) ? 1500 : 1980;
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *handle, utilisation_t *rates) { rates->gpu = number(handle) ? 50 : 100; return 0; }
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    memory->total = 1ull << 37;
    memory->used = number(handle) ? 1ull << 30 : 3ull << 30;
    return 0;
}
