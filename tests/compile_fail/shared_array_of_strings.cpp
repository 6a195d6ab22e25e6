// expect: T must be trivially copyable, because its bytes are shared as they are
// A string's characters lie elsewhere, in the memory of one process.
#include <string>

#include "kindred/shared_array.hpp"

std::size_t letters(const kindred::SharedArray<
#ifdef KINDRED_COMPILES
                    char
#else
                    std::string
#endif
                    >& array) {
  return array.size();
}

int main() { return static_cast<int>(letters({})); }
