# libstdc++ only: see libpool/doc/portability.md.
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL GNU OR CMAKE_CXX_FLAGS MATCHES libc)
  include(CheckCXXSourceCompiles)
  check_cxx_source_compiles("
    #include <version>
    #ifndef __GLIBCXX__
    #error this is not libstdc++
    #endif
    int main() {}" KINDRED_HAS_LIBSTDCXX)
  if(NOT KINDRED_HAS_LIBSTDCXX)
    message(FATAL_ERROR "kindred needs libstdc++, and ${CMAKE_CXX_COMPILER} is set to use another standard library (libc++). The stacks of "
      "exceptions are noted by means of libstdc++'s, and the fmt and spdlog of distributions are compiled with it. Leave -stdlib=libc++ out of "
      "CMAKE_CXX_FLAGS, here and in your program.")
  endif()
endif()
