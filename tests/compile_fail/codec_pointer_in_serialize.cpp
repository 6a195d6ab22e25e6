// expect: pass the value, a container, or kindred::SharedArray
#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
struct Job {
  int size = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(size);
  }
};
void write(kindred::internal::Encoder& encoder) { kindred::internal::encode(encoder, Job{}); }
#else
struct Job {
  int* size = nullptr;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(size);
  }
};
void write(kindred::internal::Encoder& encoder) { kindred::internal::encode(encoder, Job{}); }
#endif
