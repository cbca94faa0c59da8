#!/bin/bash
# Builds a small C++ program with many translation units, from sources in the lower layer, twice.
source "$(dirname "$0")/lib.sh"

mkdir -p lower/src
{
  echo 'all: program'
  printf 'objects = '
  for i in $(seq 24); do printf 'build/part%d.o ' "$i"; done
  printf '\nbuild/%%.o: src/%%.cc src/parts.h | build\n\tg++ -std=c++20 -O0 -MMD -c $< -o $@\nbuild:\n\tmkdir -p build\n'
  printf 'libparts.a: $(objects)\n\tar rcs $@ $^\n'
  printf 'program: build/main.o libparts.a\n\tg++ $^ -o $@\n-include $(wildcard build/*.d)\n'
} > lower/Makefile
{
  echo '#pragma once'
  for i in $(seq 24); do echo "int part$i(int);"; done
} > lower/src/parts.h
for i in $(seq 24); do
  printf '#include "parts.h"\n#include <map>\nint part%d(int x) { std::map<int, int> m; m[x] = %d; return m[x]; }\n' "$i" "$i" > "lower/src/part$i.cc"
done
{
  printf '#include "parts.h"\n#include <cstdio>\nint main() { int s = 0;\n'
  for i in $(seq 24); do echo "s += part$i(1);"; done
  printf 'std::printf("%%d\\n", s); }\n'
} > lower/src/main.cc

overlay m $room/lower
check "build" make -s -j2 -C m
check "the program runs" equal "$(m/program)" 300
check "nothing to do the second time" equal "$(make -C m 2>&1 | grep -c 'g++')" 0
sleep 1
check "change a source of the lower layer" sed -i 's/= 24;/= 25;/' m/src/part24.cc
check "build again" make -s -C m
check "the program is new" equal "$(m/program)" 301
check "make one part only" bash -c "touch m/src/part3.cc && make -C m | grep -c -- '-c src' | grep -qx 1"
check "clean" rm -r m/build m/program m/libparts.a
check "the sources are left" equal "$(find m -type f | wc -l)" 27
