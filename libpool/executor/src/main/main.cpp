#include "kindred/main.hpp"

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  return kindred_main(argc, argv, entry);
}
