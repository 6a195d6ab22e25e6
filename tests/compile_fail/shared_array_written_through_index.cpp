// expect: assignment of read-only location || cannot assign to return value
// Only `mutable_span()` writes, and only where writing is allowed: so a receiver's mistake is an error and not a SIGSEGV.
#include "kindred/shared_array.hpp"

void clear_first(kindred::SharedArray<int> array) {
#ifdef KINDRED_COMPILES
  array.mutable_span()[0] = 0;
#else
  array[0] = 0;
#endif
}

int main() { clear_first({}); }
