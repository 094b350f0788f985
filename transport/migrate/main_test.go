package migrate

import (
	"testing"

	"github.com/stayauth/stayauth/transport/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
