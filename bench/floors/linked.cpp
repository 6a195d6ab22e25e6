// A program that links our libraries and answers at once: what posix_spawn must at least load.
#include <unistd.h>

int main() { return write(STDOUT_FILENO, "x", 1) == 1 ? 0 : 1; }
