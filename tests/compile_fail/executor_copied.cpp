// expect: deleted
// An executor neither copies nor moves: its context is one.
#include "kindred/kindred.hpp"

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1}};
#ifndef KINDRED_COMPILES
  kindred::ProcessPoolExecutor other{std::move(pool)};
#endif
}
