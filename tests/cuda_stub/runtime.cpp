// Test-only stand-in for libcudart.so.13: "device" memory is host memory, copies are done, kernels are not run.
//
// Compiled against the toolkit's own headers, so that a signature that CUDA changes does not compile here. Memory
// starts as zeros: what a kernel would have written is 0. STUB_RECORD names a file that takes the mangled name of
// each kernel when a process launches it for the first time. STUB_REFUSE=1 refuses every kernel; a grid or a block
// that no GPU of capability 9.0 takes is refused always.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>

namespace {
std::mutex guard;
// Never destroyed: kernels are still registered and launched while a process ends.
std::map<const void*, std::string>& names = *new std::map<const void*, std::string>;
std::set<std::string>& launched = *new std::set<std::string>;
cudaError_t last = cudaSuccess;
struct Configuration {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
};
thread_local Configuration pushed;  // of a launch, between <<<…>>> and the call
const size_t MEMORY = 140ull << 30;

cudaError_t allocate(void** pointer, size_t size) {
    *pointer = std::aligned_alloc(512, (size + 511) / 512 * 512);
    if (!*pointer) return cudaErrorMemoryAllocation;
    std::memset(*pointer, 0, size);
    return cudaSuccess;
}

template <class Handle>
cudaError_t create(Handle* handle) {
    *handle = reinterpret_cast<Handle>(1);
    return cudaSuccess;
}

bool fits(dim3 grid, dim3 block) {
    return grid.x && grid.y && grid.z && block.x && block.y && block.z && grid.x <= 2147483647u && grid.y <= 65535 &&
           grid.z <= 65535 && block.x <= 1024 && block.y <= 1024 && block.z <= 64 &&
           block.x * block.y * block.z <= 1024;
}

void record(const std::string& name) {
    const char* path = std::getenv("STUB_RECORD");
    if (!path) return;
    if (FILE* file = std::fopen(path, "a")) {
        std::fprintf(file, "%s\n", name.c_str());
        std::fclose(file);
    }
}

cudaError_t launch(const void* function, dim3 grid, dim3 block) {
    if (!fits(grid, block)) return last = cudaErrorInvalidConfiguration;
    const std::lock_guard<std::mutex> lock(guard);
    const auto found = names.find(function);
    // As the runtime answers for a kernel that it has no code of.
    if (found == names.end() || std::getenv("STUB_REFUSE")) return last = cudaErrorInvalidDeviceFunction;
    if (launched.insert(found->second).second) record(found->second);
    return cudaSuccess;
}

}  // namespace

extern "C" {
cudaError_t cudaMalloc(void** pointer, size_t size) { return allocate(pointer, size); }
cudaError_t cudaMallocHost(void** pointer, size_t size) { return allocate(pointer, size); }
cudaError_t cudaMallocManaged(void** pointer, size_t size, unsigned) { return allocate(pointer, size); }
cudaError_t cudaFree(void* pointer) { std::free(pointer); return cudaSuccess; }
cudaError_t cudaFreeHost(void* pointer) { std::free(pointer); return cudaSuccess; }
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
    std::memmove(to, from, size);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
    return cudaMemcpy(to, from, size, kind);
}
cudaError_t cudaMemset(void* to, int value, size_t size) { std::memset(to, value, size); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void* to, int value, size_t size, cudaStream_t) { return cudaMemset(to, value, size); }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { *free = *total = MEMORY; return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
    std::memset(found, 0, sizeof *found);
    std::strcpy(found->name, "stand-in for a GPU");
    found->major = 9;  // an H100's or H200's
    found->multiProcessorCount = 132;
    found->warpSize = 32;
    found->maxThreadsPerBlock = found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024;
    found->maxThreadsDim[2] = 64;
    found->maxThreadsPerMultiProcessor = 2048;
    found->maxGridSize[0] = 2147483647;
    found->maxGridSize[1] = found->maxGridSize[2] = 65535;
    found->totalGlobalMem = MEMORY;
    found->sharedMemPerBlock = 48 << 10;
    found->regsPerBlock = 64 << 10;
    found->unifiedAddressing = found->managedMemory = found->concurrentManagedAccess = 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor    ? 9
             : attribute == cudaDevAttrComputeCapabilityMinor  ? 0
             : attribute == cudaDevAttrMultiProcessorCount     ? 132
             : attribute == cudaDevAttrMaxThreadsPerBlock      ? 1024
             : attribute == cudaDevAttrMaxSharedMemoryPerBlock ? 48 << 10
                                                               : 1;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { *version = 13000; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { *version = 13000; return cudaSuccess; }

cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaDeviceReset() { return cudaSuccess; }
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return create(stream); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return create(stream); }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t call, void* data, unsigned) {
    call(stream, cudaSuccess, data);
    return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t call, void* data) { call(data); return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return create(event); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return create(event); }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
    *milliseconds = 1;
    return cudaSuccess;
}
cudaError_t cudaGetLastError() {
    const cudaError_t found = last;
    last = cudaSuccess;
    return found;
}
cudaError_t cudaPeekAtLastError() { return last; }
const char* cudaGetErrorName(cudaError_t error) {
    return error == cudaSuccess                     ? "cudaSuccess"
           : error == cudaErrorInvalidConfiguration ? "cudaErrorInvalidConfiguration"
                                                    : "cudaErrorInvalidDeviceFunction";
}
const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "error of the stub"; }

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* found, const void*) {
    std::memset(found, 0, sizeof *found);
    found->ptxVersion = found->binaryVersion = 90;
    found->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
    *blocks = 1;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
    *blocks = 1;
    return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void**, size_t, cudaStream_t) {
    return launch(function, grid, block);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void**) {
    return launch(function, config->gridDim, config->blockDim);
}

// What nvcc's own host code calls.
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void**, size_t, cudaStream_t) {
    return launch(kernel, grid, block);
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
    *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
    return cudaSuccess;
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
    pushed = {grid, block, shared, stream};
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
    *grid = pushed.grid;
    *block = pushed.block;
    *shared = pushed.shared;
    *static_cast<cudaStream_t*>(stream) = pushed.stream;
    return cudaSuccess;
}
void** __cudaRegisterFatBinary(void*) { static void* handle; return &handle; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
    const std::lock_guard<std::mutex> lock(guard);
    names[function] = name;
}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
char __cudaInitModule(void**) { return 1; }
}
