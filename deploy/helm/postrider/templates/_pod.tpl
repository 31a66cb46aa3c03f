{{- define "postrider.env" -}}
- name: POSTRIDER_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "database.secret: name the Secret with the connection string of the relay's role" .Values.database.secret | quote }}
      key: {{ .Values.database.key | quote }}
{{- if .Values.database.replicaKey }}
- name: POSTRIDER_REPLICA_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.secret | quote }}
      key: {{ .Values.database.replicaKey | quote }}
{{- end }}
- name: POSTRIDER_MIGRATE
  value: "false"
- name: POSTRIDER_DRAIN_TIMEOUT
  value: {{ printf "%ds" (int .Values.drainSeconds) | quote }}
- name: POSTRIDER_HTTP_ADDR
  value: ":8480"
{{- if .Values.subscriptions }}
- name: POSTRIDER_CONFIG
  value: /etc/postrider/subscriptions.yaml
{{- end }}
{{- if .Values.secrets }}
- name: POSTRIDER_SECRETS_DIR
  value: /run/postrider/secrets
{{- end }}
{{- with .Values.api }}
{{- if .enabled }}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: POSTRIDER_API_ADDR
  value: ":8482"
- name: POSTRIDER_API_URL
  value: {{ .url | quote }}
- name: POSTRIDER_API_TOKENS
  value: {{ include "postrider.tokens" $ | quote }}
- name: POSTRIDER_API_HIDE_PAYLOADS
  value: {{ .hidePayloads | quote }}
{{- end }}
{{- end }}
{{- with .Values.callbacks }}
{{- if .enabled }}
- name: POSTRIDER_CALLBACK_ADDR
  value: ":8481"
- name: POSTRIDER_CALLBACK_URL
  value: {{ required "callbacks.url: say under which address receivers reach the callbacks, such as https://hooks.shop.example/postrider" .url | quote }}
- name: POSTRIDER_CALLBACK_SECRETS
  value: {{ include "postrider.callbackSecrets" $ | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "postrider.mounts" -}}
{{- if .Values.subscriptions }}
- name: subscriptions
  mountPath: /etc/postrider
  readOnly: true
{{- end }}
{{- if .Values.secrets }}
- name: secrets
  mountPath: /run/postrider/secrets
  readOnly: true
{{- end }}
{{- if .Values.api.enabled }}
- name: api
  mountPath: /run/postrider/api
  readOnly: true
{{- end }}
{{- if .Values.callbacks.enabled }}
- name: callbacks
  mountPath: /run/postrider/callbacks
  readOnly: true
{{- end }}
{{- end -}}

{{- define "postrider.volumes" -}}
{{- if .Values.subscriptions }}
- name: subscriptions
  configMap:
    name: {{ include "postrider.fullname" . }}-subscriptions
{{- end }}
{{- if .Values.secrets }}
- name: secrets
  secret:
    secretName: {{ .Values.secrets | quote }}
    defaultMode: 0440
{{- end }}
{{- if .Values.api.enabled }}
- name: api
  secret:
    secretName: {{ required "api.secret: name the Secret with the tokens" .Values.api.secret | quote }}
    defaultMode: 0440
{{- end }}
{{- if .Values.callbacks.enabled }}
- name: callbacks
  secret:
    secretName: {{ required "callbacks.secret: name the Secret with what signs callbacks" .Values.callbacks.secret | quote }}
    defaultMode: 0440
{{- end }}
{{- end -}}
