#include "support/stage.h"

int main(int argc, char** argv) { return vellum::test::run_on_stage(argc, argv); }
