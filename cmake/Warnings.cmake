# Warnings are errors in our own code; headers of libraries are SYSTEM and stay out of it.
add_library(vellum_warnings INTERFACE)
target_compile_options(vellum_warnings INTERFACE
  -Wall -Wextra -Werror -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Wnon-virtual-dtor
  -Woverloaded-virtual -Wcast-align -Wunused -Wnull-dereference -Wformat=2 -Wimplicit-fallthrough)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(vellum_warnings INTERFACE -Wthread-safety)
else()
  # g++ 12 reports these inside libstdc++ and fmt when it inlines them into our code.
  target_compile_options(vellum_warnings INTERFACE -Wno-null-dereference -Wno-maybe-uninitialized)
endif()
