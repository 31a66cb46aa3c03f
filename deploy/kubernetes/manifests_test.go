package kubernetes

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// manifests are what one file has, or what the chart makes of some values.
type manifests struct {
	accounts    []*corev1.ServiceAccount
	configs     []*corev1.ConfigMap
	services    []*corev1.Service
	deployments []*appsv1.Deployment
	jobs        []*batchv1.Job
	budgets     []*policyv1.PodDisruptionBudget
	policies    []*networkingv1.NetworkPolicy
	monitors    []*podMonitor
}

// podMonitor is what is used of a type of the Prometheus Operator.
type podMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector            metav1.LabelSelector `json:"selector"`
		JobLabel            string               `json:"jobLabel"`
		PodMetricsEndpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

// add decodes a document as the server of Kubernetes would that validates strictly: what its type does not have, and what stands there twice, is refused.
func (m *manifests) add(document string) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 ServiceAccount":
		return decode(document, &m.accounts)
	case "v1 ConfigMap":
		return decode(document, &m.configs)
	case "v1 Service":
		return decode(document, &m.services)
	case "apps/v1 Deployment":
		return decode(document, &m.deployments)
	case "batch/v1 Job":
		return decode(document, &m.jobs)
	case "policy/v1 PodDisruptionBudget":
		return decode(document, &m.budgets)
	case "networking.k8s.io/v1 NetworkPolicy":
		return decode(document, &m.policies)
	case "monitoring.coreos.com/v1 PodMonitor":
		return decode(document, &m.monitors)
	}
	return fmt.Errorf("there is no kind %q of %q", kind.Kind, kind.APIVersion)
}

func decode[T any](document string, into *[]*T) error {
	text, err := yaml.YAMLToJSONStrict([]byte(document))
	if err != nil {
		return err
	}
	object := new(T)
	problems, err := json.UnmarshalStrict(text, object)
	for _, p := range problems {
		err = fmt.Errorf("%w", p)
	}
	*into = append(*into, object)
	return err
}

// read decodes a file.
func read(t *testing.T, path string) *manifests {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{}
	m.addAll(t, path, string(text))
	return m
}

// addAll decodes the documents of a text.
func (m *manifests) addAll(t *testing.T, name, text string) {
	t.Helper()
	for i, document := range regexp.MustCompile(`(?m)^---$`).Split(text, -1) {
		if blank(document) {
			continue
		}
		if err := m.add(document); err != nil {
			t.Fatalf("%s: document %d: %v\n%s", name, i+1, err, document)
		}
	}
}

// blank says whether there is nothing but comments.
func blank(document string) bool {
	return strings.TrimSpace(regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(document, "")) == ""
}

// podOf is a pod that is made, and by what.
type podOf struct {
	owner string
	pod   *corev1.PodTemplateSpec
}

func (m *manifests) pods() (pods []podOf) {
	for _, d := range m.deployments {
		pods = append(pods, podOf{"Deployment " + d.Name, &d.Spec.Template})
	}
	for _, j := range m.jobs {
		pods = append(pods, podOf{"Job " + j.Name, &j.Spec.Template})
	}
	return pods
}

// containers are all of a pod, those that run first or beside it, too.
func (p podOf) containers() []corev1.Container {
	return append(append([]corev1.Container(nil), p.pod.Spec.InitContainers...), p.pod.Spec.Containers...)
}

// relay returns the container that runs a relay.
func (p podOf) relay() *corev1.Container {
	for _, c := range p.containers() {
		if len(c.Args) == 0 && variable(c, "POSTRIDER_DATABASE_URL") != nil {
			return &c
		}
	}
	return nil
}

func variable(c corev1.Container, name string) *corev1.EnvVar {
	for i := range c.Env {
		if c.Env[i].Name == name {
			return &c.Env[i]
		}
	}
	return nil
}
