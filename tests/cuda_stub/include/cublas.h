// As cublas_v2.h: Jittor includes both names, and uses nothing that only the older one has.
#pragma once
#include "cublas_v2.h"
