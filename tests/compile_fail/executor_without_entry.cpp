// expect: no matching function || no matching constructor
// A program that forgets the gate does not compile, so it cannot fork without end.
#include "kindred/kindred.hpp"

int main([[maybe_unused]] int argc, [[maybe_unused]] char** argv) {
#ifdef KINDRED_COMPILES
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1}};
#else
  kindred::ProcessPoolExecutor pool{{.max_workers = 1}};
#endif
}
