// expect: assignment of read-only location || cannot assign to return value
// A const handle only reads.
#include "kindred/shared_array.hpp"

#ifdef KINDRED_COMPILES
void clear_first(kindred::SharedArray<int> array) {
#else
void clear_first(const kindred::SharedArray<int>& array) {
#endif
  array[0] = 0;
}

int main() { clear_first({}); }
