package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/readme"
)

func TestMain(m *testing.M) {
	readme.Browse()
	os.Exit(m.Run())
}

// README shows this program, and calls it short.
func TestREADME(t *testing.T) {
	file, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(strings.ReplaceAll(string(file), "\r\n", "\n"), "\n") // the package comment
	if program != readme.Program(t, "cliauth.Open") {
		t.Error("README.md does not show examples/minimal/main.go as it is")
	}
	if n := strings.Count(program, "\n"); n > 30 {
		t.Errorf("it has %d lines", n)
	}
}
