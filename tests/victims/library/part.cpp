// A shared library of which there are two builds. The victims are linked with it, or load a copy of it.
extern "C" int part_number() { return PART; }
extern "C" int times_part(int value) { return value * PART; }
extern "C" int throw_part(int value) { throw value * PART; }
