package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/stayauth/stayauth/transport"
)

const kubeHelp = `Kube-credential prints the token as kubectl wants it from a credential plugin, for a
cluster whose API server trusts your provider. It never asks you to log in. In the
kubeconfig:

  users:
  - name: me
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        command: stayauth
        args: [kube-credential]
        interactiveMode: Never
        provideClusterInfo: true

With provideClusterInfo, the token is for the API server only if -origin, here or for
login, names it.
`

const kubeVar = "KUBERNETES_EXEC_INFO"

// An execCredential is what kubectl says to its plugin and what that answers, in
// client.authentication.k8s.io/v1, and v1beta1, which has the same fields.
type execCredential struct {
	Kind       string      `json:"kind"`
	APIVersion string      `json:"apiVersion"`
	Spec       *execSpec   `json:"spec,omitempty"`
	Status     *execStatus `json:"status,omitempty"`
}

type execSpec struct {
	Cluster struct {
		Server string `json:"server"`
	} `json:"cluster"`
}

type execStatus struct {
	Expiry time.Time `json:"expirationTimestamp,omitzero"`
	Token  string    `json:"token"`
}

func (c *cli) kubeCredential(ctx context.Context, _ []string) error {
	if err := c.checkOutput(); err != nil {
		return err
	}
	answer, server, err := parseExecInfo(os.Getenv(kubeVar))
	if err != nil {
		return err
	}
	if server != "" {
		listed, err := c.isFor(ctx, server)
		if err != nil {
			return err
		}
		if !listed {
			return usagef("the token is not for %.200q: allow it with -origin, if you trust that cluster with your account", server)
		}
	}
	return c.useToken(ctx, func(token transport.Token) error {
		answer.Status = &execStatus{Expiry: token.Expiry.UTC().Truncate(time.Second), Token: string(token.AccessToken)}
		text, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		return c.print("%s\n", text)
	})
}

// parseExecInfo reads what kubectl says, and returns an answer without a token, and the API
// server that the token is for, "" if kubectl keeps that to itself.
func parseExecInfo(info string) (answer execCredential, server string, err error) {
	answer = execCredential{Kind: "ExecCredential", APIVersion: "client.authentication.k8s.io/v1"}
	if info == "" {
		return answer, "", nil
	}
	var asked execCredential
	if err := json.Unmarshal([]byte(info), &asked); err != nil {
		return answer, "", usagef("%s is not what kubectl writes: %v", kubeVar, err)
	}
	switch asked.APIVersion {
	case answer.APIVersion, answer.APIVersion + "beta1": // It expects its own again.
		answer.APIVersion = asked.APIVersion
	default:
		return answer, "", usagef("write apiVersion: %s into the kubeconfig, instead of %.60q", answer.APIVersion, asked.APIVersion)
	}
	if asked.Spec != nil {
		server = asked.Spec.Cluster.Server
	}
	return answer, server, nil
}
