// Test-only stand-in for libcuda.so.1: a driver that runs CUDA 13.0, with one device of compute capability 9.0.
//
// STUB_DRIVER (13000 if not set) is the version that it reports, 0 for a driver that does not initialise;
// STUB_CAPABILITY (90) is the device's compute capability.
#include <cstdlib>

static int number(const char* name, int otherwise) {
    const char* text = std::getenv(name);
    return text ? std::atoi(text) : otherwise;
}

extern "C" {
int cuInit(unsigned) { return number("STUB_DRIVER", 13000) ? 0 : 999; }
int cuDriverGetVersion(int* version) { *version = number("STUB_DRIVER", 13000); return 0; }
int cuDeviceGetCount(int* count) { *count = 1; return 0; }
int cuDeviceGet(int* device, int) { *device = 0; return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    const int capability = number("STUB_CAPABILITY", 90);
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : 0;
    return 0;
}
}
