package transport

import (
	"os"
	"sync"
	"testing"
)

var secretLog struct {
	sync.Mutex
	secrets []string
}

func noteSecrets(secrets []string) {
	secretLog.Lock()
	defer secretLog.Unlock()
	secretLog.secrets = append(secretLog.secrets, secrets...)
}

func TestMain(m *testing.M) { os.Exit(m.Run()) }
