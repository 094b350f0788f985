//go:build !unix

package faultstest

import (
	"errors"
	"testing"
	"time"
)

var unixFaults, keyringFaults []fault

func smallDisk(*testing.T, string) error { return errors.New("needs a Unix system") }

func (*world) freeze(int, time.Duration, time.Duration) {}
