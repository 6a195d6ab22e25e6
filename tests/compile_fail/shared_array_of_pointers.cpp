// expect: a pointer means nothing in another process
#include "kindred/shared_array.hpp"

std::size_t cells(const kindred::SharedArray<
#ifdef KINDRED_COMPILES
                  int
#else
                  const int*
#endif
                  >& array) {
  return array.size();
}

int main() { return static_cast<int>(cells({})); }
