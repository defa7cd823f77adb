import tseslint from 'typescript-eslint';

/**
 * The layers, from the top down. A layer may import itself and what stands below it, plus the files
 * of `src/` that belong to no layer (errors, log). docs/architecture.md says what each is for.
 */
const layers = [
  'cli',
  'hosts',
  'frontend',
  'backends',
  'guest',
  'device',
  'tunnel',
  'pci',
  'virtio',
  'vhost-user',
];

/** Exceptions to "everything below": a layer that must not know a certain lower one. */
const strangers = {
  // The device knows ports, not PCI; what runs in a guest knows nothing of the device's insides.
  device: ['pci'],
  guest: ['device', 'tunnel', 'pci'],
  backends: ['device', 'tunnel', 'pci'],
  frontend: ['backends', 'guest', 'device', 'tunnel', 'pci'],
  tunnel: ['pci', 'virtio'],
  virtio: ['vhost-user'],
};

function forbid(layer) {
  const above = layers.slice(0, layers.indexOf(layer));
  const names = [...above, ...(strangers[layer] ?? [])];
  if (names.length === 0) return [];
  return [
    {
      files: [`src/${layer}/**/*.ts`],
      rules: {
        'no-restricted-imports': [
          'error',
          {
            patterns: [
              {
                regex: `^(\\.\\./)+(${names.join('|')})/`,
                message: `src/${layer} must not import this layer (docs/architecture.md, Layers).`,
              },
            ],
          },
        ],
      },
    },
  ];
}

export default tseslint.config(
  { ignores: ['**/dist/', '**/build/', 'coverage/', '.cache/', 'docs/api/'] },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: true },
      ],
      '@typescript-eslint/parameter-properties': 'off',
      'max-lines': ['error', { max: 400 }],
      'max-lines-per-function': ['error', { max: 60, skipComments: true, skipBlankLines: true }],
      eqeqeq: 'error',
      'no-console': 'error',
    },
  },
  ...layers.flatMap(forbid),
  {
    // One file loads the addon.
    files: ['src/**/*.ts'],
    ignores: ['src/native.ts'],
    rules: { 'no-restricted-syntax': ['error', { selector: "Literal[value='node-gyp-build']" }] },
  },
  {
    files: ['packages/vfio-ts-bindings/**/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              regex: '^(\\.\\./){3,}|^virtio-vhost-user|^(node:)?(net|fs|child_process|os)$',
              message: 'vfio-ts-bindings does no I/O and imports nothing of the root package.',
            },
          ],
        },
      ],
    },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts', 'examples/**/*.ts', 'packages/*/test/**/*.ts'],
    rules: {
      // A test reads top to bottom, and its tables are long.
      'max-lines-per-function': 'off',
      'no-console': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['**/*.{js,mjs}'],
    extends: [tseslint.configs.disableTypeChecked],
  },
);
