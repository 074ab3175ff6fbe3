-- The tables of the new system, phases 1 to 4. They need PostgreSQL 15 or later and no extension.

CREATE TYPE profile_type AS ENUM ('patient', 'doctor', 'technician', 'master', 'sales_person', 'agent', 'client');
CREATE TYPE project_type AS ENUM ('scan', 'treatment_plan', 'other');
CREATE TYPE project_status AS ENUM ('draft');
CREATE TYPE task_function AS ENUM (
    'submit', 'review', 'approve', 'process', 'notify', 'archive', 'scan', 'model', 'manufacture', 'quality_check', 'ship'
);

CREATE TABLE profiles (
    id uuid PRIMARY KEY,
    legacy_user_id integer UNIQUE,
    legacy_patient_id integer UNIQUE,
    profile_type profile_type NOT NULL,
    first_name text NOT NULL,
    last_name text NOT NULL,
    middle_name text,
    email text,
    phone text,
    date_of_birth date,
    gender text,
    address text,
    city text,
    state text,
    zip_code text,
    country text,
    insurance_provider text,
    insurance_id text,
    emergency_contact_name text,
    emergency_contact_phone text,
    medical_history text,
    allergies text,
    medications text,
    license_number text,
    specialties text[],
    credentials jsonb NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT true,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz,
    updated_at timestamptz,
    UNIQUE (id, profile_type)
);

CREATE TABLE offices (
    id uuid PRIMARY KEY,
    legacy_office_id integer UNIQUE,
    name text NOT NULL,
    address text NOT NULL DEFAULT '',
    city text NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT '',
    zip_code text NOT NULL DEFAULT '',
    country text NOT NULL DEFAULT '',
    phone text NOT NULL DEFAULT '',
    email text,
    website text,
    license_number text,
    is_active boolean NOT NULL DEFAULT true,
    settings jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz,
    updated_at timestamptz,
    CHECK (name ~ '[^[:space:]]')
);

CREATE TABLE order_types (
    id uuid PRIMARY KEY,
    legacy_course_id integer UNIQUE,
    name text NOT NULL UNIQUE,
    key text NOT NULL UNIQUE,
    description text,
    category text,
    base_price numeric(10,2),
    schema jsonb,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz,
    updated_at timestamptz,
    CHECK (key ~ '^[a-z0-9]+(-+[a-z0-9]+)*$')
);

CREATE TABLE order_states (
    id uuid PRIMARY KEY,
    legacy_state_id integer UNIQUE,
    name text NOT NULL UNIQUE,
    key text NOT NULL UNIQUE,
    description text,
    color text,
    sequence_order integer,
    is_initial boolean NOT NULL DEFAULT false,
    is_final boolean NOT NULL DEFAULT false,
    is_active boolean NOT NULL DEFAULT true,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz,
    updated_at timestamptz
);

CREATE TABLE doctor_offices (
    id uuid PRIMARY KEY,
    doctor_id uuid NOT NULL,
    doctor_type profile_type NOT NULL DEFAULT 'doctor',
    office_id uuid NOT NULL REFERENCES offices,
    is_primary boolean NOT NULL DEFAULT false,
    role text NOT NULL DEFAULT 'doctor',
    permissions jsonb NOT NULL DEFAULT '{}',
    start_date date,
    end_date date,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz,
    updated_at timestamptz,
    CHECK (doctor_type = 'doctor'),
    CHECK (role = 'doctor'),
    UNIQUE (doctor_id, office_id),
    FOREIGN KEY (doctor_id, doctor_type) REFERENCES profiles (id, profile_type)
);

CREATE TABLE orders (
    id uuid PRIMARY KEY,
    legacy_instruction_id integer UNIQUE,
    order_number text NOT NULL UNIQUE,
    order_type_id uuid NOT NULL REFERENCES order_types,
    patient_id uuid NOT NULL,
    patient_type profile_type NOT NULL DEFAULT 'patient',
    doctor_id uuid NOT NULL,
    doctor_type profile_type NOT NULL DEFAULT 'doctor',
    office_id uuid NOT NULL REFERENCES offices,
    current_state_id uuid NOT NULL REFERENCES order_states,
    title text,
    description text,
    priority text NOT NULL DEFAULT 'normal',
    subtotal numeric(10,2) NOT NULL,
    tax_amount numeric(10,2) NOT NULL,
    total_amount numeric(10,2) NOT NULL,
    currency text NOT NULL DEFAULT 'USD',
    data jsonb NOT NULL DEFAULT '{}',
    notes text,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz,
    updated_at timestamptz,
    completed_at timestamptz,
    cancelled_at timestamptz,
    CHECK (patient_type = 'patient'),
    CHECK (doctor_type = 'doctor'),
    FOREIGN KEY (patient_id, patient_type) REFERENCES profiles (id, profile_type),
    FOREIGN KEY (doctor_id, doctor_type) REFERENCES profiles (id, profile_type)
);

CREATE TABLE projects (
    id uuid PRIMARY KEY,
    legacy_project_id integer UNIQUE,
    legacy_uid uuid UNIQUE,
    order_id uuid REFERENCES orders,
    office_id uuid REFERENCES offices,
    creator_id uuid NOT NULL REFERENCES profiles,
    project_number text NOT NULL UNIQUE,
    name text NOT NULL,
    description text,
    project_type project_type NOT NULL,
    status project_status NOT NULL,
    file_size bigint,
    storage_path text,
    storage_bucket text NOT NULL DEFAULT 'projects',
    content_hash text,
    mime_type text,
    version integer NOT NULL DEFAULT 1,
    parent_project_id uuid REFERENCES projects,
    is_public boolean NOT NULL DEFAULT false,
    metadata jsonb NOT NULL DEFAULT '{}',
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz,
    CHECK (file_size >= 0)
);

CREATE TABLE message_types (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    key text NOT NULL UNIQUE,
    category text,
    description text,
    triggers_state_change boolean NOT NULL DEFAULT false,
    target_state_id uuid REFERENCES order_states,
    template text,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz,
    updated_at timestamptz
);

CREATE TABLE messages (
    id uuid PRIMARY KEY,
    legacy_record_id integer UNIQUE,
    message_type_id uuid NOT NULL REFERENCES message_types,
    order_id uuid REFERENCES orders,
    project_id uuid REFERENCES projects,
    patient_id uuid REFERENCES profiles,
    profile_id uuid REFERENCES profiles,
    sender_id uuid REFERENCES profiles,
    recipient_id uuid REFERENCES profiles,
    subject text,
    body text NOT NULL,
    is_read boolean NOT NULL DEFAULT false,
    read_at timestamptz,
    requires_response boolean NOT NULL DEFAULT false,
    response_due_date timestamptz,
    attachments jsonb NOT NULL DEFAULT '[]',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz,
    updated_at timestamptz,
    CHECK (num_nonnulls(order_id, project_id, patient_id, profile_id) = 1),
    CHECK (jsonb_typeof(attachments) = 'array')
);

CREATE TABLE instruction_states (
    id uuid PRIMARY KEY,
    legacy_state_id integer UNIQUE,
    order_id uuid NOT NULL REFERENCES orders,
    status_code integer NOT NULL,
    is_active boolean NOT NULL,
    changed_by_id uuid REFERENCES profiles,
    changed_at timestamptz,
    notes text,
    metadata jsonb NOT NULL DEFAULT '{}',
    legacy_instruction_id integer,
    legacy_actor_id integer
);

CREATE TABLE order_state_history (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES orders,
    from_state_id uuid REFERENCES order_states,
    to_state_id uuid NOT NULL REFERENCES order_states,
    changed_by_id uuid REFERENCES profiles,
    reason text,
    duration_minutes integer,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL
);

CREATE TABLE workflow_templates (
    id uuid PRIMARY KEY,
    legacy_template_id integer UNIQUE,
    name text NOT NULL,
    description text,
    order_type_id uuid REFERENCES order_types,
    is_predefined boolean NOT NULL DEFAULT false,
    is_active boolean NOT NULL DEFAULT true,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz,
    updated_at timestamptz
);

CREATE TABLE workflow_tasks (
    id uuid PRIMARY KEY,
    legacy_template_id integer UNIQUE,
    workflow_template_id uuid NOT NULL REFERENCES workflow_templates,
    task_name text NOT NULL,
    task_order integer NOT NULL,
    function_type task_function NOT NULL,
    action_name text,
    text_prompt text,
    estimated_duration interval,
    required_roles profile_type[],
    auto_transition boolean NOT NULL DEFAULT false,
    predecessor_tasks uuid[],
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz,
    CHECK (task_name ~ '[^[:space:]]'),
    UNIQUE (workflow_template_id, task_order)
);

CREATE UNIQUE INDEX one_primary_office ON doctor_offices (doctor_id) WHERE is_primary;

CREATE INDEX ON doctor_offices (doctor_id);
CREATE INDEX ON doctor_offices (office_id);
CREATE INDEX ON orders (order_type_id);
CREATE INDEX ON orders (patient_id);
CREATE INDEX ON orders (doctor_id);
CREATE INDEX ON orders (office_id);
CREATE INDEX ON orders (current_state_id);
CREATE INDEX ON projects (order_id);
CREATE INDEX ON projects (office_id);
CREATE INDEX ON projects (creator_id);
CREATE INDEX ON message_types (target_state_id);
CREATE INDEX ON messages (message_type_id);
CREATE INDEX ON messages (order_id);
CREATE INDEX ON messages (project_id);
CREATE INDEX ON messages (patient_id);
CREATE INDEX ON messages (profile_id);
CREATE INDEX ON messages (sender_id);
CREATE INDEX ON messages (recipient_id);
CREATE INDEX ON instruction_states (order_id);
CREATE INDEX ON instruction_states (changed_by_id);
CREATE INDEX ON order_state_history (order_id);
CREATE INDEX ON order_state_history (from_state_id);
CREATE INDEX ON order_state_history (to_state_id);
CREATE INDEX ON order_state_history (changed_by_id);
CREATE INDEX ON workflow_templates (order_type_id);
CREATE INDEX ON workflow_tasks (workflow_template_id);
