//go:build !unix

package faultstest

import (
	"errors"
	"testing"
)

var unixFaults, keyringFaults []fault

func smallDisk(*testing.T, string) error { return errors.New("needs a Unix system") }
