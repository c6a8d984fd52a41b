// Test-only stand-in for libcurand: no numbers are drawn. What Jittor calls, with NVIDIA's signatures.
#include <curand.h>

extern "C" {
curandStatus_t curandCreateGenerator(curandGenerator_t* generator, curandRngType_t) {
    *generator = reinterpret_cast<curandGenerator_t>(1);
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandDestroyGenerator(curandGenerator_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t, unsigned long long) {
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandGenerateUniform(curandGenerator_t, float*, size_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandGenerateUniformDouble(curandGenerator_t, double*, size_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandGenerateNormal(curandGenerator_t, float*, size_t, float, float) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandGenerateNormalDouble(curandGenerator_t, double*, size_t, double, double) {
    return CURAND_STATUS_SUCCESS;
}
}
