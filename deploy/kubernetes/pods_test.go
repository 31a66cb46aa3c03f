package kubernetes

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// each runs a test for all pods of everything.
func each(t *testing.T, test func(t *testing.T, m *manifests, p podOf)) {
	t.Helper()
	for name, m := range everything(t) {
		for _, p := range m.pods() {
			t.Run(name+" "+p.owner, func(t *testing.T) { test(t, m, p) })
		}
	}
}

// TestPodsAreRestricted: each is what Kubernetes' restricted profile of pod security admits, writes nothing and has no token.
func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, _ *manifests, p podOf) {
		spec := p.pod.Spec
		want(t, "automountServiceAccountToken", spec.AutomountServiceAccountToken, false)
		want(t, "enableServiceLinks", spec.EnableServiceLinks, false)
		if spec.HostNetwork || spec.HostPID || spec.HostIPC {
			t.Error("it shares something with the node")
		}
		of := spec.SecurityContext
		if of == nil || of.SeccompProfile == nil || of.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Fatal("there is no profile of system calls")
		}
		want(t, "runAsNonRoot", of.RunAsNonRoot, true)
		if of.RunAsUser == nil || *of.RunAsUser == 0 {
			t.Error("it runs as root")
		}
		for _, v := range spec.Volumes {
			if v.ConfigMap == nil && v.Secret == nil {
				t.Errorf("volume %s is neither of a ConfigMap nor of a Secret", v.Name)
			}
		}
		for _, c := range p.containers() {
			restricted(t, c)
		}
	})
}

func restricted(t *testing.T, c corev1.Container) {
	t.Helper()
	of := c.SecurityContext
	if of == nil || of.Capabilities == nil {
		t.Fatalf("%s has all capabilities", c.Name)
	}
	want(t, c.Name+": allowPrivilegeEscalation", of.AllowPrivilegeEscalation, false)
	want(t, c.Name+": readOnlyRootFilesystem", of.ReadOnlyRootFilesystem, true)
	if of.Privileged != nil || of.RunAsUser != nil || of.RunAsNonRoot != nil || of.SeccompProfile != nil {
		t.Errorf("%s differs from its pod: %+v", c.Name, of)
	}
	if !slices.Equal(of.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(of.Capabilities.Add) > 0 {
		t.Errorf("%s has capabilities: %+v", c.Name, of.Capabilities)
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
		t.Errorf("%s: resources %+v", c.Name, c.Resources)
	}
	if !regexp.MustCompile(`^registry\.example/[a-z]+(:\d+\.\d+\.\d+|@sha256:[0-9a-f]{64})$`).MatchString(c.Image) {
		t.Errorf("%s: image %s is not pinned", c.Name, c.Image)
	}
}

// want wants a value to be said, not to be left to a default.
func want(t *testing.T, name string, got *bool, want bool) {
	t.Helper()
	if got == nil || *got != want {
		t.Errorf("%s must be %t", name, want)
	}
}

// TestVolumesAreThere: what is mounted is declared, and ConfigMaps are among the documents.
func TestVolumesAreThere(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, m *manifests, p podOf) {
		used := map[string]bool{}
		for _, c := range p.containers() {
			for _, at := range c.VolumeMounts {
				used[at.Name] = true
				if !at.ReadOnly {
					t.Errorf("%s can be written", at.MountPath)
				}
			}
		}
		for _, v := range p.pod.Spec.Volumes {
			if !used[v.Name] {
				t.Errorf("nothing mounts %s", v.Name)
			}
			delete(used, v.Name)
			if v.ConfigMap != nil && m.config(v.ConfigMap.Name) == nil {
				t.Errorf("there is no ConfigMap %s", v.ConfigMap.Name)
			}
		}
		for name := range used {
			t.Errorf("there is no volume %s", name)
		}
	})
}

func (m *manifests) config(name string) *corev1.ConfigMap {
	for _, c := range m.configs {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// TestRelaysAreProbedAndDrain: by what they serve, where they serve it; and they have the time that a clean stop takes.
func TestRelaysAreProbedAndDrain(t *testing.T) {
	t.Parallel()
	seen := 0
	each(t, func(t *testing.T, _ *manifests, p podOf) {
		c := p.relay()
		if c == nil {
			return
		}
		seen++
		address := variable(*c, "POSTRIDER_HTTP_ADDR").Value
		for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil || ":"+fmt.Sprint(containerPort(*c, probe.HTTPGet.Port.String())) != address {
				t.Fatalf("%s probe %+v, want one of %s", name, probe, address)
			}
			ready := name == "readiness" && c.RestartPolicy == nil
			if path := probe.HTTPGet.Path; path == "/readyz" != ready || !ready && path != "/healthz" {
				t.Errorf("%s probe of %s", name, path)
			}
		}
		drain, err := time.ParseDuration(variable(*c, "POSTRIDER_DRAIN_TIMEOUT").Value)
		if err != nil {
			t.Fatal(err)
		}
		if grace := p.pod.Spec.TerminationGracePeriodSeconds; grace == nil || time.Duration(*grace)*time.Second < drain+10*time.Second {
			t.Errorf("it takes %s to stop, and is killed after %v s", drain, grace)
		}
		for _, first := range p.pod.Spec.InitContainers {
			if first.RestartPolicy == nil || *first.RestartPolicy != corev1.ContainerRestartPolicyAlways {
				t.Errorf("%s is no sidecar", first.Name)
			}
		}
	})
	if seen != 5 {
		t.Errorf("looked at %d relays", seen)
	}
}

func containerPort(c corev1.Container, name string) int32 {
	for _, p := range c.Ports {
		if p.Name == name {
			return p.ContainerPort
		}
	}
	return 0
}

// TestSelectorsMeet: what is about relays selects them, and the Job is none.
func TestSelectorsMeet(t *testing.T) {
	t.Parallel()
	for name, m := range everything(t) {
		for _, d := range m.deployments {
			meets(t, name+", Deployment", d.Spec.Selector, m)
		}
		for _, b := range m.budgets {
			meets(t, name+", PodDisruptionBudget", b.Spec.Selector, m)
			if n := b.Spec.MaxUnavailable.IntValue(); n < 1 || n >= int(*m.deployments[0].Spec.Replicas) {
				t.Errorf("%s: %d of %d may be away", name, n, *m.deployments[0].Spec.Replicas)
			}
		}
		for _, p := range m.policies {
			meets(t, name+", NetworkPolicy", &p.Spec.PodSelector, m)
		}
		for _, p := range m.monitors {
			meets(t, name+", PodMonitor", &p.Spec.Selector, m)
			if e := p.Spec.PodMetricsEndpoints[0]; containerPort(*relayOf(m), e.Port) != 8480 || e.Path != "/metrics" {
				t.Errorf("%s scrapes %+v", name, e)
			}
		}
		for _, s := range m.services {
			meets(t, name+", Service", &metav1.LabelSelector{MatchLabels: s.Spec.Selector}, m)
			for _, p := range s.Spec.Ports {
				if containerPort(*relayOf(m), p.TargetPort.String()) != p.Port {
					t.Errorf("%s: the service's port %+v leads nowhere", name, p)
				}
			}
			if len(s.Spec.Ports) != len(relayOf(m).Ports) {
				t.Errorf("%s: the service has %d ports, the relay %d", name, len(s.Spec.Ports), len(relayOf(m).Ports))
			}
		}
	}
	alone := read(t, "podmonitor.yaml")
	alone.deployments = read(t, "standalone.yaml").deployments
	meets(t, "podmonitor.yaml", &alone.monitors[0].Spec.Selector, alone)
}

func relayOf(m *manifests) *corev1.Container {
	return podOf{"", &m.deployments[0].Spec.Template}.relay()
}

func meets(t *testing.T, what string, s *metav1.LabelSelector, m *manifests) {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil || selector.Empty() {
		t.Fatalf("%s selects %v: %v", what, s, err)
	}
	for _, d := range m.deployments {
		if !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
			t.Errorf("%s: %s does not select %s", what, selector, d.Name)
		}
	}
	for _, j := range m.jobs {
		if selector.Matches(labels.Set(j.Spec.Template.Labels)) {
			t.Errorf("%s: %s selects %s", what, selector, j.Name)
		}
	}
}

// TestPoliciesLetThroughWhatIsNeeded: each port of a relay comes in from somebody, the one without tokens or signatures not from anybody, and names and the
// database can be asked.
func TestPoliciesLetThroughWhatIsNeeded(t *testing.T) {
	t.Parallel()
	seen := 0
	for name, m := range everything(t) {
		for _, p := range m.policies {
			seen++
			in, out := map[int]bool{}, map[int]bool{}
			for _, rule := range p.Spec.Ingress {
				for _, port := range rule.Ports {
					in[port.Port.IntValue()] = true
					if port.Port.IntValue() != 8481 && len(rule.From) == 0 {
						t.Errorf("%s: anybody comes to %s", name, port.Port)
					}
				}
			}
			for _, rule := range p.Spec.Egress {
				for _, port := range rule.Ports {
					out[port.Port.IntValue()] = true
				}
			}
			for _, port := range relayOf(m).Ports {
				if !in[int(port.ContainerPort)] {
					t.Errorf("%s: nobody comes to %d", name, port.ContainerPort)
				}
				if port.Name == "api" && !out[8482] {
					t.Errorf("%s: relays cannot ask each other", name)
				}
			}
			if !out[53] || !out[5432] || !out[443] || len(p.Spec.PolicyTypes) != 2 {
				t.Errorf("%s: it reaches %v", name, out)
			}
		}
	}
	if seen != 3 {
		t.Errorf("looked at %d policies", seen)
	}
}
