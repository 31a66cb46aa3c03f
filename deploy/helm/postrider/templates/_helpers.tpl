{{- define "postrider.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "postrider.selector" -}}
app.kubernetes.io/name: postrider
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: relay
{{- end -}}

{{- define "postrider.labels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{- define "postrider.image" -}}
{{- $repository := required "image.repository: say where the image has been pushed to, such as registry.example/postrider" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest | quote -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) | quote -}}
{{- end -}}
{{- end -}}

{{- define "postrider.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "postrider.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{- /* NAME:ROLE[SUBSCRIPTIONS]=file:PATH of each token, with commas between them. */ -}}
{{- define "postrider.tokens" -}}
{{- $list := list -}}
{{- range .Values.api.tokens -}}
{{- $of := "" -}}
{{- with get . "subscriptions" }}{{ $of = printf "[%s]" (join " " .) }}{{ end -}}
{{- $list = append $list (printf "%s:%s%s=file:/run/postrider/api/%s" .name .role $of (get . "key" | default .name)) -}}
{{- end -}}
{{- join "," $list -}}
{{- end -}}

{{- define "postrider.callbackSecrets" -}}
{{- $list := list -}}
{{- range .Values.callbacks.keys }}{{ $list = append $list (printf "file:/run/postrider/callbacks/%s" .) }}{{ end -}}
{{- join "," $list -}}
{{- end -}}

{{- define "postrider.subscriptions" -}}
{{- dict "subscriptions" .Values.subscriptions | toYaml -}}
{{- end -}}
