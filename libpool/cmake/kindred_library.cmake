# What the three libraries have in common, so that their own lists say only what each is made of and rests on.
include(GNUInstallDirs)
set(KINDRED_EXPORTS ${PROJECT_BINARY_DIR}/kindred_exports)
configure_file(${CMAKE_CURRENT_LIST_DIR}/exports.in ${KINDRED_EXPORTS} @ONLY)

# kindred_requires(<package> [<version>] [PC <module>] [LIBS <flags>] [NEEDS <text>] [PRIVATE])
# Finds a dependency here, and records it for the installed CMake package (find_dependency) and for kindred.pc.
#   PC: the pkg-config module that gives the same. LIBS: link flags where there is no such module.
#   NEEDS: what the message calls it where it is not found.
#   PRIVATE: no public header includes it, so a program that links shared libraries of ours does not need it.
define_property(GLOBAL PROPERTY KINDRED_PACKAGES BRIEF_DOCS "find_dependency lines of the installed package")
define_property(GLOBAL PROPERTY KINDRED_PC_REQUIRES BRIEF_DOCS "modules that kindred.pc requires")
define_property(GLOBAL PROPERTY KINDRED_PC_LIBS BRIEF_DOCS "link flags that kindred.pc adds")
define_property(GLOBAL PROPERTY KINDRED_PACKAGES_PRIVATE BRIEF_DOCS "the same of dependencies that no public header includes")
define_property(GLOBAL PROPERTY KINDRED_PC_REQUIRES_PRIVATE BRIEF_DOCS "the same of dependencies that no public header includes")
define_property(GLOBAL PROPERTY KINDRED_PC_LIBS_PRIVATE BRIEF_DOCS "the same of dependencies that no public header includes")
# kindred_finds(<package> [<version>] NEEDS <text>): the same for what only a program of ours needs: it is found, and nothing is recorded.
macro(kindred_finds package)
  cmake_parse_arguments(kindred_finds_arg "" "NEEDS" "" ${ARGN})
  find_package(${package} ${kindred_finds_arg_UNPARSED_ARGUMENTS})
  if(NOT ${package}_FOUND)
    execute_process(COMMAND ${PROJECT_SOURCE_DIR}/tests/support/install_packages --list build
      OUTPUT_VARIABLE kindred_debian_packages ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
    string(REPLACE "\n" " " kindred_debian_packages "${kindred_debian_packages}")
    if(kindred_debian_packages)
      set(kindred_mend "On this system: apt-get install ${kindred_debian_packages}")
    else()
      set(kindred_mend "Install its development files with this system's package manager, or name its folder in CMAKE_PREFIX_PATH.")
    endif()
    message(FATAL_ERROR "kindred needs ${kindred_finds_arg_NEEDS}, which CMake did not find (find_package(${package})). ${kindred_mend}")
  endif()
endmacro()

macro(kindred_requires package)
  cmake_parse_arguments(kindred_arg "PRIVATE" "PC;LIBS;NEEDS" "" ${ARGN})
  kindred_finds(${package} ${kindred_arg_UNPARSED_ARGUMENTS} NEEDS "${kindred_arg_NEEDS}")
  set(kindred_private)
  if(kindred_arg_PRIVATE)
    set(kindred_private _PRIVATE)
  endif()
  list(JOIN kindred_arg_UNPARSED_ARGUMENTS " " kindred_arg_version)
  set_property(GLOBAL APPEND PROPERTY KINDRED_PACKAGES${kindred_private} "${package} ${kindred_arg_version}")
  set_property(GLOBAL APPEND PROPERTY KINDRED_PC_REQUIRES${kindred_private} ${kindred_arg_PC})
  set_property(GLOBAL APPEND PROPERTY KINDRED_PC_LIBS${kindred_private} ${kindred_arg_LIBS})
endmacro()

# kindred's own code is held to every warning; code that uses kindred is not.
function(kindred_own_code target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
  if(KINDRED_HARDENING)
    # _FORTIFY_SOURCE needs optimisation, and says so by a warning where there is none.
    target_compile_options(${target} PRIVATE -fstack-protector-strong -fstack-clash-protection
      $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
      target_compile_options(${target} PRIVATE -fcf-protection)
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64")
      target_compile_options(${target} PRIVATE -mbranch-protection=standard)
    endif()
    target_link_options(${target} PRIVATE -Wl,-z,relro,-z,now)
  endif()
  if(KINDRED_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${KINDRED_SANITIZE} -fno-omit-frame-pointer)
    if(KINDRED_SANITIZE MATCHES undefined)
      # The check of an object's type writes to a pipe to find out whether the object can be read: where a test
      # leaves no descriptor, each object has the wrong type.
      target_compile_options(${target} PRIVATE -fno-sanitize=vptr)
    endif()
    if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND KINDRED_SANITIZE MATCHES thread)
      target_compile_options(${target} PRIVATE -Wno-tsan)  # says of each fence that ThreadSanitizer does not see it
    endif()
    target_link_options(${target} PUBLIC $<BUILD_INTERFACE:-fsanitize=${KINDRED_SANITIZE}>)
  endif()
endfunction()

# kindred_library(<part> SOURCES <files> PUBLIC <targets> PRIVATE <targets>)
# Makes kindred_<part>, known as kindred::<part>, from src/ and include/ of the current folder.
function(kindred_library part)
  cmake_parse_arguments(PARSE_ARGV 1 arg "STATIC" "" "SOURCES;PUBLIC;PRIVATE")
  set(target kindred_${part})
  set(kind)
  if(arg_STATIC)
    set(kind STATIC)
  endif()
  add_library(${target} ${kind} ${arg_SOURCES})
  add_library(kindred::${part} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${part} CXX_EXTENSIONS OFF
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  target_compile_features(${target} PUBLIC cxx_std_20)
  if(IS_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/include)
    target_include_directories(${target} PUBLIC
      $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  endif()
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/src)
  if(KINDRED_UNTRIED_VERSIONS)
    target_compile_definitions(${target} PRIVATE KINDRED_UNTRIED_VERSIONS)
  endif()
  # Of a shared library only what is ours is seen: the Boost that is compiled into it does not meet the program's.
  target_link_options(${target} PRIVATE -Wl,--as-needed "$<$<STREQUAL:$<TARGET_PROPERTY:${target},TYPE>,SHARED_LIBRARY>:-Wl,--version-script=${KINDRED_EXPORTS}>")
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${KINDRED_EXPORTS})
  target_link_libraries(${target} PUBLIC ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
  kindred_own_code(${target})
  set_property(GLOBAL APPEND PROPERTY KINDRED_TARGETS ${target})
  set_property(GLOBAL APPEND PROPERTY KINDRED_INCLUDE_DIRS ${CMAKE_CURRENT_SOURCE_DIR}/include)
endfunction()

# kindred_manual(<page> <folder> [COMPONENT <name>]): the manual page of a program, and the folder with its completions (NAME.bash, NAME.fish, _NAME),
# from the current folder. They are installed with that component, which is `tools` where none is named.
define_property(GLOBAL PROPERTY KINDRED_MANUALS BRIEF_DOCS "COMPONENT:FILE of the manual pages to install")
define_property(GLOBAL PROPERTY KINDRED_COMPLETIONS BRIEF_DOCS "COMPONENT:FOLDER of the shell completions to install")
function(kindred_manual page completions)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "COMPONENT" "")
  if(NOT arg_COMPONENT)
    set(arg_COMPONENT tools)
  endif()
  set_property(GLOBAL APPEND PROPERTY KINDRED_MANUALS ${arg_COMPONENT}:${CMAKE_CURRENT_SOURCE_DIR}/${page})
  set_property(GLOBAL APPEND PROPERTY KINDRED_COMPLETIONS ${arg_COMPONENT}:${CMAKE_CURRENT_SOURCE_DIR}/${completions})
endfunction()
